"""Made from ``atelier_client.sharing`` by ``scripts/make_async_client.py``: change that, and run it again."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

from atelier_client.aio.calls import Calls
from atelier_client.aio.waiting import poll
from atelier_client.errors import CoverRejected, PublicationFailed
from atelier_client.models import Page
from atelier_client.sharing import (
    WAIT_SECONDS,
    AdapterLink,
    NewAdapterLink,
    Publication,
    SentCover,
    _MadeLink,
    read_file,
)
from atelier_client.transport import quote
from atelier_client.waiting import make_wait, report_waiting


class SharingCalls(Calls):
    async def publish_adapter(
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
        return await self._create(f"/adapters/{quote(adapter_id)}/publish", Publication, body)

    async def wait_for_publication(
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
        publication = await poll(
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

    def list_publications(self, adapter_id: str) -> AsyncIterator[Publication]:
        """Newest first. Pages are fetched on demand."""
        return self._list(f"/adapters/{quote(adapter_id)}/publications", Page[Publication])

    async def create_link(self, adapter_id: str, *, expires_in: int | None = None) -> NewAdapterLink:
        """A page and a download without a key, for ``expires_in`` seconds: a week by default. Only this answer has its
        ``url``."""
        body = {} if expires_in is None else {"expires_in": expires_in}
        made = await self._create(f"/adapters/{quote(adapter_id)}/links", _MadeLink, body)
        while made.url is None:  # the answer with the address was lost, so nobody has it
            await self.delete_link(adapter_id, made.id)
            made = await self._create(f"/adapters/{quote(adapter_id)}/links", _MadeLink, body)
        return NewAdapterLink.model_validate(made.model_dump())

    def list_links(self, adapter_id: str) -> AsyncIterator[AdapterLink]:
        """Newest first, with those that have expired, and with how often each was used."""
        return self._list(f"/adapters/{quote(adapter_id)}/links", Page[AdapterLink])

    async def delete_link(self, adapter_id: str, link_id: str) -> None:
        """Revokes it, at once and for good."""
        await self._transport.send("DELETE", f"/adapters/{quote(adapter_id)}/links/{quote(link_id)}")

    async def send_cover(
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
        sent = await self._transport.ask("PUT", f"{target}/cover", SentCover, content=content, headers=headers)
        cover = await poll(
            lambda: self._transport.get(f"{target}/covers/{quote(sent.id)}", SentCover),
            lambda cover: cover.status == "checking",
            timeout_seconds=timeout_seconds,
            what=f"The picture {sent.id} is still waiting for a worker",
            on_pending=report_waiting(on_waiting),
        )
        if cover.status != "ready":
            raise CoverRejected(cover.error.detail if cover.error else f"The picture {sent.id} was rejected.")
        return cover

    async def download_cover(self, adapter_id: str, target: Path) -> str:
        """Returns the file's sha256. Fails for an adapter without a cover: ApiError with status 404."""
        return await self._download(f"/adapters/{quote(adapter_id)}/cover.png", target)
