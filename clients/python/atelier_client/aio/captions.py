"""Made from ``atelier_client.captions`` by ``scripts/make_async_client.py``: change that, and run it again."""

from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

from atelier_client.aio.calls import Calls
from atelier_client.aio.waiting import follow, poll, retry
from atelier_client.aio.watching import StateWatch
from atelier_client.captions import WAIT_SECONDS, Captioner, Captioning, explain_captioning
from atelier_client.errors import CaptionerUnusable, CaptioningEnded
from atelier_client.models import Dataset, Page
from atelier_client.transport import quote
from atelier_client.waiting import report_waiting


class CaptionCalls(Calls):
    # --- captioners ---------------------------------------------------------------------------------------

    def list_captioners(self) -> AsyncIterator[Captioner]:
        return self._list("/captioners", Page[Captioner])

    async def get_captioner(self, captioner_id: str) -> Captioner:
        return await self._transport.get(f"/captioners/{quote(captioner_id)}", Captioner)

    async def register_captioner(self, source: Mapping[str, Any]) -> Captioner:
        """For the operator. ``source`` has the ``path`` of a folder below the service's models directory or a
        ``hub_id``, and optionally ``id`` and ``description``. It is ``checking`` until a worker has loaded it."""
        return await self._transport.ask("POST", "/captioners", Captioner, json=dict(source))

    async def wait_for_captioner(
        self,
        captioner_id: str,
        *,
        timeout_seconds: float | None = None,
        on_waiting: Callable[[str], object] = lambda _: None,
    ) -> Captioner:
        """Returns the captioner once it is ``ready``. Raises CaptionerUnusable with the reason, or WaitTimeout.
        ``on_waiting`` is called with the reason if the service has to postpone the check."""
        captioner = await poll(
            lambda: self.get_captioner(captioner_id),
            lambda captioner: captioner.status == "checking",
            timeout_seconds=timeout_seconds,
            what=f"Captioner {captioner_id} is still being checked",
            on_pending=report_waiting(on_waiting),
        )
        if captioner.status != "ready":
            detail = captioner.error.detail if captioner.error else f"Captioner {captioner_id} was rejected."
            raise CaptionerUnusable(detail, captioner)
        return captioner

    async def delete_captioner(self, captioner_id: str) -> None:
        """For the operator. Captionings that wait for it fail."""
        await self._transport.send("DELETE", f"/captioners/{quote(captioner_id)}")

    # --- captionings --------------------------------------------------------------------------------------

    async def caption_dataset(self, dataset_id: str, spec: Mapping[str, Any]) -> Captioning:
        """Queues captions for a ready dataset. ``spec`` has a ``captioner`` and optionally ``prompt``, ``prefix``,
        ``suffix``, ``only_missing``, ``threshold`` and the revision's ``name``."""
        return await self._create(f"/datasets/{quote(dataset_id)}/captions", Captioning, spec)

    async def get_captioning(self, captioning_id: str, *, wait_seconds: float = 0) -> Captioning:
        """``wait_seconds``: for another caption or the end, at most a minute."""
        params = {"wait": str(wait_seconds)} if wait_seconds else None
        return await self._transport.get(f"/captionings/{quote(captioning_id)}", Captioning, params=params)

    def list_captionings(self, *, dataset: str | None = None, after: str | None = None) -> AsyncIterator[Captioning]:
        """Newest first, starting after an id. Pages are fetched on demand."""
        return self._list("/captionings", Page[Captioning], {"dataset": dataset, "after": after})

    async def wait_for_captioning(
        self,
        captioning_id: str,
        *,
        timeout_seconds: float | None = None,
        on_update: Callable[[Captioning], object] = lambda _: None,
    ) -> Dataset:
        """Returns the revision with the captions; ``on_update`` is called whenever there are more. Raises
        CaptioningEnded if it failed or was canceled, and WaitTimeout."""
        captioning = await follow(
            lambda seconds: self.get_captioning(captioning_id, wait_seconds=seconds),
            lambda captioning: captioning.num_done,
            longest_seconds=WAIT_SECONDS,
            timeout_seconds=timeout_seconds,
            what=f"Captioning {captioning_id}",
            on_update=on_update,
        )
        if captioning.status != "succeeded" or captioning.revision is None:
            raise CaptioningEnded(explain_captioning(captioning), captioning)
        return await retry(partial(self._transport.get, f"/datasets/{quote(captioning.revision)}", Dataset))

    def watch_captioning(self, captioning_id: str) -> AsyncIterator[Captioning]:
        """Its state, and again at each change, until it has ended; of a stream that breaks, the rest is read from
        another one. Raises ConnectionFailed or ApiError when the service has not answered for two minutes, or refuses,
        and UnexpectedAnswer where something blocks streams: ``wait_for_captioning`` needs none."""
        path = f"/captionings/{quote(captioning_id)}/events"
        return StateWatch(self._transport, path, Captioning.model_validate_json).run_states()

    async def cancel_captioning(self, captioning_id: str) -> Captioning:
        return await self._transport.ask("POST", f"/captionings/{quote(captioning_id)}/cancel", Captioning)

    async def delete_captioning(self, captioning_id: str) -> None:
        """Ended or not; its revision stays."""
        await self._transport.send("DELETE", f"/captionings/{quote(captioning_id)}")
