"""Made from ``atelier_client.watching`` by ``scripts/make_async_client.py``: change that, and run it again."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic

import httpx
import httpx_sse
from pydantic import ValidationError

from atelier_client.aio.transport import Transport
from atelier_client.errors import ApiError, ConnectionFailed, UnexpectedAnswer, is_passing
from atelier_client.models import Job, JobEvent, Page
from atelier_client.transport import describe, quote
from atelier_client.waiting import Work
from atelier_client.watching import (
    BACKOFF_SECONDS,
    PATIENCE_SECONDS,
    POLL_SECONDS,
    STREAM_TIMEOUT,
    Item,
    NoStream,
    Update,
    refuse_page,
)


class Watch:
    """The position in a job's history, and since when the service has not answered."""

    def __init__(
        self, transport: Transport, job_id: str, after: str | None, on_outage: Callable[[], object] = lambda: None
    ) -> None:
        self.transport, self.on_outage = transport, on_outage
        self.path = f"/jobs/{quote(job_id)}"
        self.last_id = after
        self.ended = False
        self.failures = 0
        self.silent_since: float | None = None

    async def run(self) -> AsyncGenerator[Update]:
        source: Callable[[], AsyncIterator[Update]] = self.read_stream
        while not self.ended:
            try:
                async for one in source():
                    yield one
            except NoStream:
                source = self.fetch_news
            except (ConnectionFailed, ApiError) as error:
                await self.wait_after(error)

    async def read_stream(self) -> AsyncIterator[Update]:
        """Reads until the job's last event or the end of the connection, then fetches the job once."""
        async with self.open_stream() as response:
            if "text/event-stream" not in response.headers.get("content-type", ""):
                raise NoStream
            async for message in httpx_sse.EventSource(response).aiter_sse():
                self.heard()
                update = self.read(message)
                if update is not None:
                    yield self.note(update)
                if isinstance(update, JobEvent) and update.is_final:
                    break
        async for one in self.fetch_news():
            yield one

    def open_stream(self) -> AbstractAsyncContextManager[httpx.Response]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self.last_id is not None:
            headers["Last-Event-ID"] = self.last_id
        return self.transport.stream(f"{self.path}/events", headers=headers, timeout=STREAM_TIMEOUT)

    def read(self, message: httpx_sse.ServerSentEvent) -> Update | None:
        """None for a kind of message that this client does not know."""
        try:
            if message.event == "progress":
                return Job.model_validate_json(message.data)
            return JobEvent.model_validate_json(message.data) if message.event.startswith("job.") else None
        except ValidationError as error:
            raise UnexpectedAnswer(f"The event stream is not Atelier's: {describe(error)}") from error

    async def fetch_news(self) -> AsyncIterator[Update]:
        """Fetches what is new by plain requests; then pauses, unless the job has ended."""
        # The job first: once it has ended, its last event can be fetched.
        job = await self.transport.get(self.path, Job)
        async for event in self.fetch_events():
            yield self.note(event)
        self.heard()
        self.ended = job.is_terminal
        yield job
        if not self.ended:
            await asyncio.sleep(POLL_SECONDS)

    async def fetch_events(self) -> AsyncIterator[JobEvent]:
        """Fetches the events after the last one that the caller received."""
        while True:
            params: dict[str, Any] = {} if self.last_id is None else {"after": self.last_id}
            page = await self.transport.get(f"{self.path}/events", Page[JobEvent], params=params)
            for one in page.data:
                yield one
            if not page.has_more:
                return

    def note(self, update: Update) -> Update:
        if isinstance(update, JobEvent):
            self.last_id = update.id
        return update

    def heard(self) -> None:
        self.failures, self.silent_since = 0, None

    async def wait_after(self, error: ConnectionFailed | ApiError) -> None:
        """Raises ``error`` if it is permanent, or if the service has not answered for PATIENCE_SECONDS."""
        now = time.monotonic()
        self.silent_since = self.silent_since or now
        if self.failures == 1 and is_passing(error):  # one failure may be a connection that was closed for its age
            self.on_outage()
        if not is_passing(error) or now - self.silent_since > PATIENCE_SECONDS:
            raise error
        await asyncio.sleep(BACKOFF_SECONDS[min(self.failures, len(BACKOFF_SECONDS) - 1)])
        self.failures += 1


async def persist(source: Callable[[], AsyncIterator[Item]]) -> AsyncIterator[Item]:
    """Reads a stream, and opens it again whenever it ends or breaks, until the caller stops. Raises ConnectionFailed or
    ApiError when the service has not answered for PATIENCE_SECONDS, or refuses."""
    failures = 0
    silent_since: float | None = None
    while True:
        try:
            async for item in source():
                failures, silent_since = 0, None
                yield item
            await asyncio.sleep(BACKOFF_SECONDS[0])  # something may end all streams at once
        except (ConnectionFailed, ApiError) as error:
            now = time.monotonic()
            silent_since = silent_since or now
            if not is_passing(error) or now - silent_since > PATIENCE_SECONDS:
                raise
            await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
            failures += 1


class StateWatch(Generic[Work]):
    """The states of one captioning, from its stream at ``path``."""

    def __init__(self, transport: Transport, path: str, parse: Callable[[str], Work]) -> None:
        self.transport, self.path, self.parse = transport, path, parse
        self.last_id = ""

    async def run_states(self) -> AsyncIterator[Work]:
        """Until one that is terminal. Raises as ``persist``, and UnexpectedAnswer."""
        async for state in persist(self.read_states):
            yield state
            if state.is_terminal:
                return

    async def read_states(self) -> AsyncIterator[Work]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", "Last-Event-ID": self.last_id}
        last: Work | None = None
        async with self.transport.stream(self.path, headers=headers, timeout=STREAM_TIMEOUT) as response:
            refuse_page(response)
            async for message in httpx_sse.EventSource(response).aiter_sse():
                state = self.parse_state(message.data)
                self.last_id = message.id
                if state.is_terminal:
                    last = state
                    break
                yield state
        if last is not None:  # once the connection is given back
            yield last

    def parse_state(self, data: str) -> Work:
        try:
            return self.parse(data)
        except ValidationError as error:
            raise UnexpectedAnswer(f"The event stream is not Atelier's: {describe(error)}") from error


def watch_job(
    transport: Transport, job_id: str, after: str | None, on_outage: Callable[[], object]
) -> AsyncGenerator[Update]:
    return Watch(transport, job_id, after, on_outage).run()
