"""The states of everything, as they change: one stream for a program that shows them."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import httpx_sse
from pydantic import ValidationError

from atelier_client.answers import Answer, Page
from atelier_client.calls import Calls
from atelier_client.errors import ApiError, ConnectionFailed, UnexpectedAnswer, is_passing
from atelier_client.models import Progress
from atelier_client.transport import describe
from atelier_client.watching import BACKOFF_SECONDS, PATIENCE_SECONDS, SILENCE_SECONDS


class Activity(Answer):
    """The state of one thing. ``resource``: its type, such as ``job``. ``status``: null if it was deleted."""

    resource: str
    id: str
    status: str | None
    phase: str | None = None
    progress: Progress | None = None
    queue_position: int | None = None


class ActivityCalls(Calls):
    def list_activity(self) -> Iterator[Activity]:
        """The current states of the newest things, and of all base models and workers."""
        return self._list("/activity", Page[Activity])

    def watch_activity(self) -> Iterator[Activity | None]:
        """Every change as it happens, without end. None: the stream has begun, or begun again after an outage; read
        what you show then, and you miss nothing.

        Raises ConnectionFailed or ApiError when the service has not answered for two minutes, or refuses.
        """
        failures = 0
        silent_since: float | None = None
        while True:
            try:
                for change in self._stream_activity():
                    failures, silent_since = 0, None
                    yield change
            except (ConnectionFailed, ApiError) as error:
                now = time.monotonic()
                silent_since = silent_since or now
                if not is_passing(error) or now - silent_since > PATIENCE_SECONDS:
                    raise
                time.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1

    def _stream_activity(self) -> Iterator[Activity | None]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        options: dict[str, Any] = {"headers": headers, "timeout": httpx.Timeout(SILENCE_SECONDS, connect=10.0)}
        with self._transport.stream("/activity", **options) as response:
            if "text/event-stream" not in response.headers.get("content-type", ""):
                raise UnexpectedAnswer(
                    "Something between this client and the service does not let event streams through."
                )
            for message in httpx_sse.EventSource(response).iter_sse():
                if message.event == "ready":
                    yield None
                elif message.data:
                    yield parse_activity(message.data)


def parse_activity(data: str) -> Activity:
    try:
        return Activity.model_validate_json(data)
    except ValidationError as error:
        raise UnexpectedAnswer(f"The event stream is not Atelier's: {describe(error)}") from error
