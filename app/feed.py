"""One reading of a job for all of a caller's streams of it: each event is read and written out once, however many
clients follow. A client that is behind what its feed holds reads for itself until it has caught up.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from app.auth.service import Caller
from app.progress import POLL_SECONDS, ProgressHub
from core.domain.errors import NotFound, Unauthenticated, Unavailable

KEPT = 200
"""Events that a feed holds."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class News:
    """What is new of a job after an event's ``seq``. ``events``: each with its ``seq``, as it is sent. ``message``: the
    progress as it is sent, whenever ``progress`` is another. ``has_ended``: the job has, and these are the last."""

    events: Sequence[tuple[int, bytes]]
    progress: object
    message: bytes
    has_more: bool
    has_ended: bool


Read = Callable[[int], Awaitable[News]]
"""Of the news after a ``seq``. Raises NotFound, Unauthenticated, Unavailable."""


class Feed:
    """Reads at every change, while anybody follows. During an outage of the database it waits."""

    def __init__(self, read: Read, after_seq: int) -> None:
        self._read = read
        self._events: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._after, self._last = after_seq, after_seq
        """It holds the events after the first of these, up to the second."""
        self._latest: News | None = None
        self._num_begun, self._num_done = 0, 0
        self._wake: Callable[[], None] = lambda: None
        self._changed = asyncio.Event()
        self.is_closed = False
        self.num_followers = 0

    async def run(self, progress: ProgressHub, job_id: str) -> None:
        """Until the job ends or is deleted, or the caller's key is no longer valid."""
        try:
            with progress.listen(job_id) as listener:
                self._wake = listener.wake
                while not self._is_job_over:
                    if not await self._advance():
                        await listener.wait()
        except (NotFound, Unauthenticated):
            pass
        finally:
            self.is_closed = True
            self._tell()

    async def follow(self, after_seq: int) -> AsyncGenerator[bytes, None]:
        """What the events after ``after_seq`` and the progress are sent as; a reading that begins now is the first.
        Ends with the job, when it is deleted, or with the caller's key."""
        cursor, shown, awaited = after_seq, None, self._num_begun + 1
        self._wake()
        while not self.is_closed or self._is_job_over:
            changed = self._changed
            is_behind = cursor < self._after
            if not is_behind and self._num_done < awaited and not self.is_closed:
                await changed.wait()
                continue
            try:
                if is_behind:
                    news = await self._read(cursor)
                    awaited = self._num_begun + 1  # what the feed read earlier may show less progress than this did
                    self._wake()
                else:
                    news = self._find(cursor)
            except (NotFound, Unauthenticated):
                return
            except Unavailable:
                await asyncio.sleep(POLL_SECONDS)
                continue
            parts = [data for _, data in news.events]
            if news.progress != shown and not news.has_ended:
                shown = news.progress
                parts.append(news.message)
            if parts:
                yield b"".join(parts)
            cursor = news.events[-1][0] if news.events else cursor
            if news.has_ended:
                return
            if not news.has_more:
                await changed.wait()

    @property
    def _is_job_over(self) -> bool:
        return self._latest is not None and self._latest.has_ended

    async def _advance(self) -> bool:
        """Whether there is more to read at once."""
        self._num_begun += 1
        number = self._num_begun
        try:
            news = await self._read(self._last)
        except Unavailable:
            return False
        for event in news.events:
            if len(self._events) == KEPT:
                self._after = self._events[0][0]
            self._events.append(event)
            self._last = event[0]
        self._latest, self._num_done = news, number
        self._tell()
        return news.has_more

    def _find(self, cursor: int) -> News:
        """Of the latest reading, for a follower that is not behind."""
        assert self._latest is not None
        events = [event for event in self._events if event[0] > cursor]
        return News(events, self._latest.progress, self._latest.message, False, self._latest.has_ended)

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Feeds:
    """Of a process: one for each caller and job that is followed."""

    def __init__(self, progress: ProgressHub) -> None:
        self._progress = progress
        self._open: dict[tuple[Caller, str], tuple[Feed, asyncio.Task[None]]] = {}

    async def follow(self, caller: Caller, job_id: str, after_seq: int, read: Read) -> AsyncGenerator[bytes, None]:
        """See Feed.follow. ``read``: for this caller and job."""
        feed, task = self._find(caller, job_id, after_seq, read)
        feed.num_followers += 1
        try:
            async with aclosing(feed.follow(after_seq)) as messages:
                async for message in messages:
                    yield message
        finally:
            feed.num_followers -= 1
            if not feed.num_followers:
                task.cancel()

    def _find(self, caller: Caller, job_id: str, after_seq: int, read: Read) -> tuple[Feed, asyncio.Task[None]]:
        known = self._open.get((caller, job_id))
        if known is not None and not known[0].is_closed and known[0].num_followers:
            return known
        feed = Feed(read, after_seq)
        task = asyncio.create_task(feed.run(self._progress, job_id))
        self._open[caller, job_id] = feed, task
        task.add_done_callback(lambda _: self._forget(caller, job_id, feed, task))
        return feed, task

    def _forget(self, caller: Caller, job_id: str, feed: Feed, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the stream of job %s has failed", job_id, exc_info=error)
        if self._open.get((caller, job_id), (None, None))[0] is feed:
            del self._open[caller, job_id]
