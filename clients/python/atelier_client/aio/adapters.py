"""Made from ``atelier_client.adapters`` by ``scripts/make_async_client.py``: change that, and run it again."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from atelier_client.adapters import WAIT_SECONDS
from atelier_client.aio.calls import Calls
from atelier_client.aio.waiting import poll
from atelier_client.checks import AdapterCheck
from atelier_client.errors import AdapterUnusable
from atelier_client.models import Adapter, AdapterFormat, Page
from atelier_client.transport import UPLOAD_TIMEOUT, quote
from atelier_client.uploads import LazyFile
from atelier_client.waiting import make_wait, report_waiting


class AdapterCalls(Calls):
    def list_adapters(
        self,
        *,
        model: str | None = None,
        trigger: str | None = None,
        tag: str | None = None,
        text: str | None = None,
        like: str | None = None,
        after: str | None = None,
    ) -> AsyncIterator[Adapter]:
        """Newest first, starting after an id. ``text``: words that are all in the name, description, notes, trigger or
        tags. ``like``: the id of an adapter, whose likes are listed. Pages are fetched on demand."""
        filters = {"model": model, "trigger": trigger, "tag": tag, "text": text, "like": like, "after": after}
        return self._list("/adapters", Page[Adapter], filters)

    async def get_adapter(self, adapter_id: str) -> Adapter:
        return await self._transport.get(f"/adapters/{quote(adapter_id)}", Adapter)

    async def import_adapter(
        self,
        path: Path,
        model: str,
        *,
        name: str | None = None,
        trigger: str | None = None,
        tags: Sequence[str] = (),
        on_bytes: Callable[[int], None] | None = None,
    ) -> Adapter:
        """Uploads another tool's .safetensors file; the adapter is ``checking`` first. ``on_bytes`` as for datasets."""
        given = {"model": model, "name": name, "trigger": trigger, "tags": ",".join(tags)}
        fields = {key: value for key, value in given.items() if value}
        files = {"file": (path.name, LazyFile(path, on_bytes), "application/octet-stream")}
        return await self._transport.ask("POST", "/adapters", Adapter, data=fields, files=files, timeout=UPLOAD_TIMEOUT)

    async def wait_for_adapter(
        self,
        adapter_id: str,
        *,
        timeout_seconds: float = 3600,
        on_waiting: Callable[[str], None] = lambda _: None,
    ) -> Adapter:
        """Returns the adapter once it is ``ready``. Raises AdapterUnusable with the reason, or WaitTimeout.
        ``on_waiting`` is called with the reason if the service has to postpone the check."""
        adapter = await poll(
            lambda: self.get_adapter(adapter_id),
            lambda adapter: adapter.status == "checking",
            timeout_seconds=timeout_seconds,
            what=f"Adapter {adapter_id} is still being checked",
            on_pending=report_waiting(on_waiting),
        )
        if adapter.status != "ready":
            raise AdapterUnusable(adapter.error.detail if adapter.error else f"Adapter {adapter_id} was rejected.")
        return adapter

    async def change_adapter(self, adapter_id: str, changes: Mapping[str, Any]) -> Adapter:
        """``changes`` may contain ``name``, ``description``, ``notes``, ``license``, ``tags`` and ``cover``."""
        return await self._transport.ask("PATCH", f"/adapters/{quote(adapter_id)}", Adapter, json=dict(changes))

    async def delete_adapter(self, adapter_id: str) -> None:
        await self._transport.send("DELETE", f"/adapters/{quote(adapter_id)}")

    async def download_adapter_file(
        self, adapter_id: str, target: Path, adapter_format: AdapterFormat = "kohya"
    ) -> str:
        """Like ``download_adapter``, by the adapter's id."""
        return await self._download(f"/adapters/{quote(adapter_id)}/download?format={adapter_format}", target)

    async def merge_adapters(
        self,
        adapters: Mapping[str, float],
        *,
        method: Literal["concat", "svd"] = "concat",
        rank: int | None = None,
        name: str | None = None,
        trigger: str | None = None,
        tags: Sequence[str] = (),
    ) -> Adapter:
        """Makes one adapter from a stack, id -> weight; it is ``checking`` first. ``rank`` is for ``svd``."""
        body = {
            "adapters": [{"id": adapter_id, "weight": weight} for adapter_id, weight in adapters.items()],
            "method": method,
            "rank": rank,
            "name": name,
            "trigger": trigger,
            "tags": list(tags),
        }
        return await self._create("/adapters/merge", Adapter, body)

    async def extract_adapter(
        self,
        tuned: str,
        model: str,
        *,
        rank: int = 32,
        name: str | None = None,
        trigger: str | None = None,
        tags: Sequence[str] = (),
    ) -> Adapter:
        """Makes an adapter for ``model`` of what the fine-tuned ``tuned`` has learned; it is ``checking`` first."""
        body = {"model": model, "tuned": tuned, "rank": rank, "name": name, "trigger": trigger, "tags": list(tags)}
        return await self._create("/adapters/extract", Adapter, body)

    async def resize_adapter(self, adapter_id: str, rank: int, *, name: str | None = None) -> Adapter:
        """Makes another adapter, of a lower rank; it is ``checking`` first."""
        return await self._create(f"/adapters/{quote(adapter_id)}/resize", Adapter, {"rank": rank, "name": name})

    async def check_adapters(
        self,
        adapters: Sequence[str],
        *,
        model: str | None = None,
        timeout_seconds: float = 3600,
        on_waiting: Callable[[str], None] = lambda _: None,
    ) -> AdapterCheck:
        """Whether adapters fit a base (by default the first one's) and how far they overlap. Raises AdapterUnusable if
        they cannot be read, or WaitTimeout. ``on_waiting`` is called with the reason if the service has to postpone the
        check."""
        body = {"adapters": list(adapters), "model": model}
        params = {"wait": make_wait(WAIT_SECONDS, timeout_seconds)()}
        first = await self._create("/adapters/check", AdapterCheck, body, params=params)
        path, answers = f"/adapters/checks/{quote(first.id)}", iter([first])

        async def fetch() -> AdapterCheck:
            return next(answers, None) or await self._transport.get(path, AdapterCheck)

        check = await poll(
            fetch,
            lambda check: check.status == "checking",
            timeout_seconds=timeout_seconds,
            what=f"Check {first.id} is still waiting for a worker",
            on_pending=report_waiting(on_waiting),
        )
        if check.status != "done":
            raise AdapterUnusable(check.error.detail if check.error else f"Check {first.id} failed.")
        return check
