"""What shows an adapter to others: publications on the Hugging Face Hub, links for people without a key, and covers."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from pydantic import Field

from atelier_client.calls import Calls
from atelier_client.errors import CoverRejected, InputError, PublicationFailed
from atelier_client.models import Answer, ErrorInfo, Page
from atelier_client.transport import quote
from atelier_client.waiting import make_wait, poll, report_waiting

WAIT_SECONDS = 30


class Publication(Answer):
    """``url`` and ``commit`` are null until it is ``published``; ``error`` says why it ``failed``."""

    id: str
    status: str
    adapter: str
    repo_id: str
    private: bool = True
    url: str | None = None
    commit: str | None = None
    error: ErrorInfo | None = None
    waiting_reason: str | None = None
    created_at: datetime


class AdapterLink(Answer):
    """A link without its secret. Whoever has it sees one page, and downloads the files of one adapter."""

    id: str
    adapter: str
    expired: bool = False
    num_views: int = 0
    num_downloads: int = 0
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None


class NewAdapterLink(AdapterLink):
    """The service does not show the ``url`` again."""

    url: str = Field(repr=False)


class _MadeLink(AdapterLink):
    """``url`` is null in an answer to a retry."""

    url: str | None = Field(None, repr=False)


class SentCover(Answer):
    """A picture that was sent as a cover: ``checking``, ``ready``, or ``rejected`` with the ``error``."""

    id: str
    status: str
    adapter: str
    error: ErrorInfo | None = None
    waiting_reason: str | None = None


class SharingCalls(Calls):
    def publish_adapter(
        self,
        adapter_id: str,
        repo_id: str,
        *,
        private: bool = True,
        overwrite: bool = False,
        base_model: str | None = None,
        license_id: str | None = None,
        token: str | None = None,
    ) -> Publication:
        """Sends an adapter to ``repo_id`` (``owner/name``) of the Hub; it is ``publishing`` first. ``base_model``: the
        base's repository there. ``license_id``: the Hub's name of a licence. ``token``: of the Hub, with the right to
        write; without one the operator's is used, for the operator's own tenant."""
        body = {
            "repo_id": repo_id,
            "private": private,
            "overwrite": overwrite,
            "base_model": base_model,
            "license": license_id,
            "token": token,
        }
        return self._create(f"/adapters/{quote(adapter_id)}/publish", Publication, body)

    def wait_for_publication(
        self,
        adapter_id: str,
        publication_id: str,
        *,
        timeout_seconds: float | None = None,
        on_waiting: Callable[[str], None] = lambda _: None,
    ) -> Publication:
        """Returns it once it is ``published``. Raises PublicationFailed with the reason, or WaitTimeout."""
        path = f"/adapters/{quote(adapter_id)}/publications/{quote(publication_id)}"
        wait = make_wait(WAIT_SECONDS, timeout_seconds)
        publication = poll(
            lambda: self._transport.get(path, Publication, params={"wait": wait()}),
            lambda publication: publication.status == "publishing",
            timeout_seconds=timeout_seconds,
            what=f"Publication {publication_id} is still waiting for a worker",
            on_pending=report_waiting(on_waiting),
        )
        if publication.status != "published":
            error = publication.error
            raise PublicationFailed(error.detail if error else f"Publication {publication_id} failed.")
        return publication

    def list_publications(self, adapter_id: str) -> Iterator[Publication]:
        """Newest first. Pages are fetched on demand."""
        return self._list(f"/adapters/{quote(adapter_id)}/publications", Page[Publication])

    def create_link(self, adapter_id: str, *, expires_in: int | None = None) -> NewAdapterLink:
        """A page and a download without a key, for ``expires_in`` seconds: a week by default. Only this answer has its
        ``url``."""
        body = {} if expires_in is None else {"expires_in": expires_in}
        made = self._create(f"/adapters/{quote(adapter_id)}/links", _MadeLink, body)
        while made.url is None:  # the answer with the address was lost, so nobody has it
            self.delete_link(adapter_id, made.id)
            made = self._create(f"/adapters/{quote(adapter_id)}/links", _MadeLink, body)
        return NewAdapterLink.model_validate(made.model_dump())

    def list_links(self, adapter_id: str) -> Iterator[AdapterLink]:
        """Newest first, with those that have expired, and with how often each was used."""
        return self._list(f"/adapters/{quote(adapter_id)}/links", Page[AdapterLink])

    def delete_link(self, adapter_id: str, link_id: str) -> None:
        """Revokes it, at once and for good."""
        self._transport.send("DELETE", f"/adapters/{quote(adapter_id)}/links/{quote(link_id)}")

    def send_cover(
        self,
        adapter_id: str,
        path: Path,
        *,
        timeout_seconds: float | None = 600,
        on_waiting: Callable[[str], None] = lambda _: None,
    ) -> SentCover:
        """Sends a picture as the adapter's cover, and waits until the service has read it. Raises CoverRejected with
        the reason, WaitTimeout, and InputError for a file that cannot be read."""
        content, target = read_file(path), f"/adapters/{quote(adapter_id)}"
        headers = {"Content-Type": "application/octet-stream"}
        sent = self._transport.ask("PUT", f"{target}/cover", SentCover, content=content, headers=headers)
        cover = poll(
            lambda: self._transport.get(f"{target}/covers/{quote(sent.id)}", SentCover),
            lambda cover: cover.status == "checking",
            timeout_seconds=timeout_seconds,
            what=f"The picture {sent.id} is still waiting for a worker",
            on_pending=report_waiting(on_waiting),
        )
        if cover.status != "ready":
            raise CoverRejected(cover.error.detail if cover.error else f"The picture {sent.id} was rejected.")
        return cover

    def download_cover(self, adapter_id: str, target: Path) -> str:
        """Returns the file's sha256. Fails for an adapter without a cover: ApiError with status 404."""
        return self._download(f"/adapters/{quote(adapter_id)}/cover.png", target)


def read_file(path: Path) -> bytes:
    """Raises InputError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
