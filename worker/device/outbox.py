"""The writes of a running job to the database, in order, through outages.

While the database is unreachable the job trains on and its writes wait; after GIVE_UP_SECONDS without a response the
attempt is abandoned.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import redis
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from core.db.job_claims import Claim
from core.queue import progress_channel

GIVE_UP_SECONDS = 600.0
SILENT_BROKER_SECONDS = 10.0
"""After a failure nothing is published for this long: a hanging broker must not delay a job."""

log = logging.getLogger("atelier.outbox")

Write = Callable[[Session], Any]
Then = Callable[[Any], None]


class DatabaseGone(Exception):
    """The database did not respond for GIVE_UP_SECONDS."""


class Outbox:
    """Fenced writes in order. A flush sends what it can; a failed write stays at the head."""

    def __init__(self, sessions: sessionmaker[Session], bell: redis.Redis, claim: Claim) -> None:
        self._sessions, self._bell, self._claim = sessions, bell, claim
        self._writes: deque[tuple[Write, Then | None]] = deque()
        self._failing_since: float | None = None
        self._publish_again_at = 0.0

    def add(self, write: Callable[..., Any], *args: Any, then: Then | None = None, **kwargs: Any) -> None:
        """``write`` is a function of core.db.job_claims: called with a session and the claim first. ``then`` is called
        with its return value, once that is committed."""
        self._writes.append((lambda session: write(session, self._claim, *args, **kwargs), then))

    def flush(self) -> bool:
        """True when nothing is left.

        Raises LostLease, DatabaseGone, or the database's error for a write that it will never accept; then nothing is
        left either.
        """
        waiting = len(self._writes)
        try:
            while self._writes:
                if not self._send(*self._writes[0]):
                    return False
                self._writes.popleft()
            return True
        finally:
            if len(self._writes) < waiting:
                self._publish()

    def drain(self) -> None:
        """Flushes until nothing is left."""
        while not self.flush():
            time.sleep(1.0)

    def _send(self, write: Write, then: Then | None) -> bool:
        try:
            with self._sessions.begin() as session:
                answer = write(session)
        except (DataError, IntegrityError, ProgrammingError):
            self._writes.clear()
            raise
        except (DBAPIError, PoolTimeoutError) as error:
            now = time.monotonic()
            self._failing_since = self._failing_since or now
            if now - self._failing_since > GIVE_UP_SECONDS:
                raise DatabaseGone(str(error)) from error
            return False
        self._failing_since = None
        if then is not None:
            then(answer)
        return True

    def _publish(self) -> None:
        """Best effort: listeners of the job poll the database anyway."""
        if time.monotonic() < self._publish_again_at:
            return
        try:
            self._bell.publish(progress_channel(self._claim.job_id), "")
        except redis.RedisError:
            self._publish_again_at = time.monotonic() + SILENT_BROKER_SECONDS
