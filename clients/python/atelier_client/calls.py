"""What the calls of all resources share: lists page by page, files, and requests that create something."""

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from atelier_client.answers import Item, Page
from atelier_client.downloads import save
from atelier_client.transport import Parsed, Transport
from atelier_client.waiting import retry

LARGEST_PAGE = 100


class Calls:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _create(self, path: str, kind: type[Parsed], body: Mapping[str, Any], **options: Any) -> Parsed:
        """Posts the body. Retries carry a key, so that they create one thing."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return retry(lambda: self._transport.ask("POST", path, kind, json=dict(body), headers=headers, **options))

    def _download(self, path: str, target: Path) -> str:
        def fetch() -> str:
            with self._transport.stream(path) as response:
                return save(response, target)

        return retry(fetch)

    def _list(
        self, path: str, kind: type[Page[Item]], filters: Mapping[str, str | None] | None = None
    ) -> Iterator[Item]:
        params = {key: value for key, value in (filters or {}).items() if value is not None}
        while True:
            page = self._transport.get(path, kind, params=params)
            yield from page.data
            if not page.has_more or page.last_id is None:
                return
            params["after"] = page.last_id
