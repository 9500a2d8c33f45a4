"""Made from ``atelier_client.activity`` by ``scripts/make_async_client.py``: change that, and run it again."""

from collections.abc import AsyncIterator

import httpx_sse

from atelier_client.activity import Activity, parse_activity
from atelier_client.aio.calls import Calls
from atelier_client.aio.watching import persist
from atelier_client.answers import Page
from atelier_client.watching import STREAM_TIMEOUT, refuse_page


class ActivityCalls(Calls):
    def list_activity(self) -> AsyncIterator[Activity]:
        """The current states of the newest things, and of all base models and workers."""
        return self._list("/activity", Page[Activity])

    def watch_activity(self) -> AsyncIterator[Activity | None]:
        """Every change as it happens, without end. None: the stream has begun, or begun again after an outage; read
        what you show then, and you miss nothing.

        Raises ConnectionFailed or ApiError when the service has not answered for two minutes, or refuses.
        """
        return persist(self._stream_activity)

    async def _stream_activity(self) -> AsyncIterator[Activity | None]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        async with self._transport.stream("/activity", headers=headers, timeout=STREAM_TIMEOUT) as response:
            refuse_page(response)
            async for message in httpx_sse.EventSource(response).aiter_sse():
                if message.event == "ready":
                    yield None
                elif message.data:
                    yield parse_activity(message.data)
