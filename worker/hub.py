"""``python -m worker.hub``: sends one adapter to a repository of the Hugging Face Hub.

Called with its parent's id; reads a ``PublishOrder`` from standard input and writes a ``PublishAnswer`` to standard
output. A process of its own: the Hub's library reads its switches from the environment at import, and its requests
have no common time limit. The order is the only place where the token is, and no output names it.
"""

import os
import signal
import sys
from http import HTTPStatus
from types import FrameType

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is of whichever HTTP library it has
    HfHubHTTPError,
    HTTPError,
    RepositoryNotFoundError,
)

from core.domain.publication import PublishAnswer, PublishOrder
from worker.answers import take_stdout
from worker.parent import die_with_parent

UNTOUCHED = frozenset({".gitattributes", "README.md"})
"""What the Hub itself puts into a new repository."""
MAX_REASON_CHARS = 300


class Refused(Exception):
    """The Hub's refusal, or ours, in words for the client."""


def publish(order: PublishOrder) -> PublishAnswer:
    """Refusals are answers; none contains the token."""
    try:
        return _publish(HfApi(endpoint=order.endpoint, token=order.token), order)
    except Refused as error:
        return PublishAnswer(refusal=_clean(str(error), order))
    except (HfHubHTTPError, HTTPError, OSError, ValueError, RuntimeError) as error:
        return PublishAnswer(refusal=_clean(explain(error, order), order))


def _publish(hub: HfApi, order: PublishOrder) -> PublishAnswer:
    try:
        hub.create_repo(order.repo_id, private=order.private)
    except HfHubHTTPError as error:
        if error.response.status_code != HTTPStatus.CONFLICT:
            raise
        _check_existing(hub, order)
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in order.files.items()]
    commit = hub.create_commit(order.repo_id, operations, commit_message=order.message)
    return PublishAnswer(url=f"{order.endpoint}/{order.repo_id}", commit=commit.oid)


def _check_existing(hub: HfApi, order: PublishOrder) -> None:
    """An attempt that was cut off may have made the repository, and even the commit. Raises Refused."""
    info = hub.model_info(order.repo_id, files_metadata=True)
    if bool(info.private) != order.private:
        now, wanted = ("private", "public") if info.private else ("public", "private")
        raise Refused(
            f"{order.repo_id} exists and is {now}, and you asked for a {wanted} one. Change that on the Hub, or "
            "publish under another name."
        )
    files = info.siblings or []
    is_ours = any(file.lfs is not None and file.lfs.sha256 in order.weights for file in files)
    is_new = {file.rfilename for file in files} <= UNTOUCHED
    if not (order.overwrite or is_ours or is_new):
        raise Refused(
            f"{order.repo_id} exists already and has other files. Publish under another name, or with overwrite, which "
            "adds a commit to it."
        )


def explain(error: BaseException, order: PublishOrder) -> str:
    """The first error with a status, of those that one was raised from, counts."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, HfHubHTTPError):
            return _explain_status(link, order)
        link = link.__cause__ or link.__context__
    if isinstance(error, HTTPError | OSError):
        return f"The Hub at {order.endpoint} could not be reached. Publish it again later."
    return f"The Hub did not take it: {error}"


def _explain_status(error: HfHubHTTPError, order: PublishOrder) -> str:
    status, said = error.response.status_code, f" It says: {error.server_message}" if error.server_message else ""
    owner = order.repo_id.partition("/")[0]
    if status == HTTPStatus.UNAUTHORIZED and not isinstance(error, RepositoryNotFoundError):
        return (
            "The Hub does not know the token (401): it is mistyped, expired or revoked. Make a new one with the right "
            "to write."
        )
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
        return (
            f"The token may not write to {order.repo_id} ({status}): it needs the right to write, and its account "
            f"a place in {owner}.{said}"
        )
    if status == HTTPStatus.CONFLICT:
        return f"Somebody else changed {order.repo_id} at the same moment (409). Publish it again.{said}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "The Hub limits requests from here for now (429). Publish it again in some minutes."
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"The Hub has a fault of its own ({status}). Publish it again in some minutes."
    return f"The Hub refused it ({status}).{said}"


def _clean(text: str, order: PublishOrder) -> str:
    text = text.replace(order.token, "[token]")
    return "".join(char if char.isprintable() else " " for char in text)[:MAX_REASON_CHARS]


def main() -> None:
    die_with_parent(int(sys.argv[1]))
    with take_stdout() as answers:
        order = PublishOrder.model_validate_json(sys.stdin.buffer.read())

        def give_up(_number: int, _frame: FrameType | None) -> None:
            """At once: the library's threads would be waited for."""
            late = f"The Hub took longer than {order.timeout_seconds:.0f} s. Publish it again."
            answers.write(PublishAnswer(refusal=late).model_dump_json().encode())
            answers.flush()
            os._exit(0)

        signal.signal(signal.SIGALRM, give_up)
        signal.setitimer(signal.ITIMER_REAL, order.timeout_seconds)
        answers.write(publish(order).model_dump_json().encode())


if __name__ == "__main__":
    main()
