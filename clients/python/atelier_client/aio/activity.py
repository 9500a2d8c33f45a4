"""Made from ``atelier_client.activity`` by ``scripts/make_async_client.py``: change that, and run it again."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx_sse

from atelier_client.activity import Activity, parse_activity
from atelier_client.aio.calls import Calls
from atelier_client.answers import Page
from atelier_client.errors import ApiError, ConnectionFailed, UnexpectedAnswer, is_passing
from atelier_client.watching import BACKOFF_SECONDS, PATIENCE_SECONDS, SILENCE_SECONDS


class ActivityCalls(Calls):
    def list_activity(self) -> AsyncIterator[Activity]:
        """The current states of the newest things, and of all base models and workers."""
        return self._list("/activity", Page[Activity])

    async def watch_activity(self) -> AsyncIterator[Activity | None]:
        """Every change as it happens, without end. None: the stream has begun, or begun again after an outage; read
        what you show then, and you miss nothing.

        Raises ConnectionFailed or ApiError when the service has not answered for two minutes, or refuses.
        """
        failures = 0
        silent_since: float | None = None
        while True:
            try:
                async for change in self._stream_activity():
                    failures, silent_since = 0, None
                    yield change
            except (ConnectionFailed, ApiError) as error:
                now = time.monotonic()
                silent_since = silent_since or now
                if not is_passing(error) or now - silent_since > PATIENCE_SECONDS:
                    raise
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1

    async def _stream_activity(self) -> AsyncIterator[Activity | None]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        options: dict[str, Any] = {"headers": headers, "timeout": httpx.Timeout(SILENCE_SECONDS, connect=10.0)}
        async with self._transport.stream("/activity", **options) as response:
            if "text/event-stream" not in response.headers.get("content-type", ""):
                raise UnexpectedAnswer(
                    "Something between this client and the service does not let event streams through."
                )
            async for message in httpx_sse.EventSource(response).aiter_sse():
                if message.event == "ready":
                    yield None
                elif message.data:
                    yield parse_activity(message.data)
