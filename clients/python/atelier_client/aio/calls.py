"""Made from ``atelier_client.calls`` by ``scripts/make_async_client.py``: change that, and run it again."""

import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from atelier_client.aio.downloads import save
from atelier_client.aio.transport import Transport
from atelier_client.aio.waiting import retry
from atelier_client.answers import Item, Page
from atelier_client.transport import Parsed


class Calls:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def _create(self, path: str, kind: type[Parsed], body: Mapping[str, Any], **options: Any) -> Parsed:
        """Posts the body. Retries carry a key, so that they create one thing."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return await retry(lambda: self._transport.ask("POST", path, kind, json=dict(body), headers=headers, **options))

    async def _download(self, path: str, target: Path) -> str:
        async def fetch() -> str:
            async with self._transport.stream(path) as response:
                return await save(response, target)

        return await retry(fetch)

    async def _list(
        self, path: str, kind: type[Page[Item]], filters: Mapping[str, str | None] | None = None
    ) -> AsyncIterator[Item]:
        params = {key: value for key, value in (filters or {}).items() if value is not None}
        while True:
            page = await self._transport.get(path, kind, params=params)
            for one in page.data:
                yield one
            if not page.has_more or page.last_id is None:
                return
            params["after"] = page.last_id
