"""Base models from the Hugging Face Hub, on a machine with a network. ``HF_HUB_OFFLINE`` is respected."""

import errno
import os
import shutil
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is of whichever HTTP library it has
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from worker.engine.errors import BadInput

_LAYOUT = (
    "A repository must be a base model in diffusers' layout (model_index.json and folders of .safetensors weights); a "
    "single .safetensors file can be downloaded by hand, put into the models directory and registered by its path."
)
_TOKEN = "If that needs an account, set HF_TOKEN to its token for the worker."  # noqa: S105 - advice, no token
_UNREACHABLE = (
    "The Hub could not be reached. Check the network of the worker and register it again; or download the repository "
    "elsewhere, put its folder into the models directory and register that by its path."
)
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (
        GatedRepoError,
        "{hub_id} is gated: accept its terms on its page on the Hub, set HF_TOKEN to a token of that account for the "
        "worker, and register it again.",
    ),
    (DisabledRepoError, "{hub_id} was disabled on the Hub: choose another."),
    (
        RepositoryNotFoundError,
        f"The Hub has no repository {{hub_id}}, or it is private: check the spelling. {_TOKEN}",
    ),
    (HFValidationError, "{hub_id} is not the name of a repository: write it as owner/name."),
    (RemoteEntryNotFoundError, "{hub_id} lacks a file that a model needs. {layout}"),
)
_OUT_OF_REACH = (HTTPError, ConnectionError, TimeoutError, LocalEntryNotFoundError, OfflineModeIsEnabled)
_DISK = (errno.ENOSPC, errno.EDQUOT)

REFUSALS = (OSError, ValueError, HTTPError)
"""The Hub client's errors for a repository that does not exist, is not ours to read, or is unreachable."""


def is_offline() -> bool:
    return bool(constants.HF_HUB_OFFLINE)


def fetch_base(hub_id: str, folder: Path) -> None:
    """The repository's current pipeline, safetensors only, as plain files. Raises BadInput."""
    if is_offline():
        raise BadInput(
            f"{hub_id} cannot be fetched: HF_HUB_OFFLINE is set. Put the base's folder or file into the models "
            "directory and register its path."
        )
    from diffusers import DiffusionPipeline  # it takes seconds to import, and what fetches captioners does not need it

    cache = folder.with_name(f"{folder.name}.cache")
    try:
        snapshot = DiffusionPipeline.download(hub_id, cache_dir=cache, use_safetensors=True, safety_checker=None)
        shutil.copytree(snapshot, folder, copy_function=_link, dirs_exist_ok=True)
    except REFUSALS as error:
        raise BadInput(explain(hub_id, error)) from error
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _link(source: str, target: str) -> None:
    """The cache's files are links to blobs beside it: no byte is copied if the file system has hard links."""
    try:
        os.link(Path(source).resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def explain(hub_id: str, error: BaseException, *, layout: str = _LAYOUT) -> str:
    """The failure and the advice, in words for an operator: the libraries' own messages name parameters and classes.

    They raise one error from another, of which the first known one counts: that a file is not in the cache only means
    that the Hub was not reached, so it comes last.
    """
    chain = list(_list_causes(error))
    for kind, words in _REASONS:
        if any(isinstance(link, kind) for link in chain):
            return words.format(hub_id=hub_id, layout=layout)
    for link in chain:
        if isinstance(link, HfHubHTTPError):
            return _explain_status(hub_id, link.response.status_code)
    if any(isinstance(link, OSError) and link.errno in _DISK for link in chain):
        return f"{hub_id} could not be stored: the disk of the models directory is full. Make room and try again."
    if any(isinstance(link, _OUT_OF_REACH) for link in chain):
        return _UNREACHABLE
    return f"{hub_id} has no usable weights. {layout}"


def _list_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explain_status(hub_id: str, status: int) -> str:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f"The Hub does not let this service read {hub_id}. {_TOKEN}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return f"The Hub limits requests from here for now. Register {hub_id} again in some minutes."
    return f"The Hub answered {status} for {hub_id}. Register it again in some minutes."
