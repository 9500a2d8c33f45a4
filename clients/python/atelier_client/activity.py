"""The states of everything, as they change: one stream for a program that shows them."""

from collections.abc import Iterator

import httpx_sse
from pydantic import ValidationError

from atelier_client.answers import Answer, Page
from atelier_client.calls import Calls
from atelier_client.errors import UnexpectedAnswer
from atelier_client.models import Progress
from atelier_client.transport import describe
from atelier_client.watching import STREAM_TIMEOUT, persist, refuse_page


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
        return persist(self._stream_activity)

    def _stream_activity(self) -> Iterator[Activity | None]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        with self._transport.stream("/activity", headers=headers, timeout=STREAM_TIMEOUT) as response:
            refuse_page(response)
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
