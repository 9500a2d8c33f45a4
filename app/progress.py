"""Hears from Redis that a job has changed, and wakes the listeners that wait for it.

One connection serves all listeners of the process. A message may be lost, and Redis may be away: listeners
read the database every POLL_SECONDS, whatever they hear.
"""

import asyncio
import logging
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from core.queue import progress_channel

POLL_SECONDS = 2.0
UNANNOUNCED_POLL_SECONDS = 0.3
"""Of listeners for rows whose changes nothing announces."""
RECONNECT_SECONDS = 1.0
REDIS_TIMEOUT_SECONDS = 2.0
HEALTH_CHECK_SECONDS = 10.0
EVERYTHING = "*"
"""In place of an id: every channel, as Redis writes patterns."""

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Listener:
    """A listener for the changes of one job, or of everything."""

    def __init__(self, poll_seconds: float) -> None:
        self._changed = asyncio.Event()
        self._poll_seconds = poll_seconds

    def wake(self) -> None:
        self._changed.set()

    async def wait(self, timeout_seconds: float = math.inf) -> None:
        """Returns at the next change since the last call, or when it is time to poll anyway."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(timeout_seconds, self._poll_seconds)):
                await self._changed.wait()
        self._changed.clear()


class ProgressHub:
    """Start it with ``start``, inside the event loop it serves."""

    def __init__(self, redis_url: str) -> None:
        # No retries: a listener's poll and a client's next request are the retries.
        self._redis = Redis.from_url(
            redis_url,
            socket_timeout=REDIS_TIMEOUT_SECONDS,
            socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
            health_check_interval=HEALTH_CHECK_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self.poll_seconds = POLL_SECONDS
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._keep(self._listen_always())

    async def close(self) -> None:
        # More than once: Python 3.11's asyncio.wait_for, which the library uses, may swallow a cancellation.
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=0.2)
        await self._redis.aclose()

    @contextmanager
    def listen(self, job_id: str, poll_seconds: float | None = None) -> Iterator[Listener]:
        """Enter it before reading the database, so that no change falls between. ``poll_seconds``: of this listener."""
        listener, channel = Listener(poll_seconds or self.poll_seconds), progress_channel(job_id)
        self._listeners[channel].add(listener)
        try:
            yield listener
        finally:
            self._listeners[channel].discard(listener)
            if not self._listeners[channel]:
                del self._listeners[channel]

    def listen_to_all(self) -> AbstractContextManager[Listener]:
        """For the changes of everything, of all tenants; the listener reads what it may see."""
        return self.listen(EVERYTHING)

    async def wait_until(
        self,
        row_id: str,
        read: Callable[[], Awaitable[T]],
        is_awaited: Callable[[T], bool],
        seconds: float,
        poll_seconds: float | None = None,
    ) -> T:
        """The first answer that is awaited, or the one when the time is up. Reads at every change of the row."""
        deadline = time.monotonic() + seconds
        with self.listen(row_id, poll_seconds) as listener:
            while True:
                answer = await read()
                left = deadline - time.monotonic()
                if is_awaited(answer) or left <= 0:
                    return answer
                await listener.wait(left)

    def announce(self, job_id: str) -> None:
        """Tells every process that a job has changed; best effort, and without waiting for the broker."""
        self._wake(progress_channel(job_id))
        self._keep(self._publish(progress_channel(job_id)))

    async def ping(self) -> None:
        """Raises redis.exceptions.RedisError or OSError if the broker does not respond."""
        await self._redis.ping()

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        """The event loop itself holds tasks weakly."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _wake(self, channel: str) -> None:
        for name in (channel, progress_channel(EVERYTHING)):
            for listener in self._listeners.get(name, ()):
                listener.wake()

    async def _publish(self, channel: str) -> None:
        try:
            await self._redis.publish(channel, b"")
        except (RedisError, OSError) as error:
            logger.warning("a change was not published on %s: %s", channel, error)

    async def _listen_always(self) -> None:
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                logger.warning("changes are not heard until the broker is back: %s", error)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as subscription:
            await subscription.psubscribe(progress_channel(EVERYTHING))
            while True:
                message = await subscription.get_message(timeout=HEALTH_CHECK_SECONDS)
                if message is not None and message["type"] == "pmessage":
                    self._wake(message["channel"].decode())
