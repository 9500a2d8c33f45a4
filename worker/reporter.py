"""What goes from a running job to the database: heartbeats on a connection of their own, and an outbox.

A database out of reach is not a lost lease. The job trains on, what it has to say waits in order, and only
after GIVE_UP_SECONDS without an answer is the attempt given up.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import redis
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from core.db import claims
from core.db.claims import Claim, LostLease
from core.domain.states import JobStatus
from core.queue import progress_channel

GIVE_UP_SECONDS = 600.0
SILENT_BROKER_SECONDS = 10.0
"""How long nothing is published after a failure: waiting for a broker that hangs must not hold up a job."""

log = logging.getLogger("atelier.reporter")

Write = Callable[[Session], Any]
Then = Callable[[Any], None]


class DatabaseGone(Exception):
    """The database did not answer for GIVE_UP_SECONDS."""


class Heart:
    """Renews the lease every few seconds from its own thread, and learns what the clients want.

    ``also`` is called after each beat, and may raise what the database raises.
    """

    def __init__(
        self,
        sessions: sessionmaker[Session],
        claim: Claim,
        *,
        beat_seconds: float,
        lease_seconds: float,
        also: Callable[[], None],
    ) -> None:
        self._sessions, self._claim, self._also = sessions, claim, also
        self._beat_seconds, self._lease_seconds = beat_seconds, lease_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"heart-{claim.job_id}")
        self.wish = JobStatus.RUNNING
        self.lost = False

    def __enter__(self) -> "Heart":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=self._beat_seconds + 5)

    def _run(self) -> None:
        while not self._ended.wait(self._beat_seconds) and not self.lost:
            try:
                with self._sessions.begin() as session:
                    self.wish = claims.beat(session, self._claim, lease_seconds=self._lease_seconds)
                self._also()
            except LostLease:
                self.lost = True
            except (DBAPIError, PoolTimeoutError):
                log.warning("no heartbeat for %s: the database does not answer", self._claim.job_id)


class Outbox:
    """Fenced writes in order. A flush sends what it can; a failed write stays at the head."""

    def __init__(self, sessions: sessionmaker[Session], bell: redis.Redis, claim: Claim) -> None:
        self._sessions, self._bell, self._claim = sessions, bell, claim
        self._writes: deque[tuple[Write, Then | None]] = deque()
        self._failing_since: float | None = None
        self._publish_again_at = 0.0

    def add(self, write: Callable[..., Any], *args: Any, then: Then | None = None, **kwargs: Any) -> None:
        """``write`` is a function of core.db.claims: called with a session and the claim first. ``then`` is called
        with what it returned, once that is committed."""
        self._writes.append((lambda session: write(session, self._claim, *args, **kwargs), then))

    def flush(self) -> bool:
        """True when nothing is left.

        Raises LostLease, DatabaseGone, or the database's error for a write that it will never take; nothing is
        left then either.
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
        """Best effort: who waits for the job looks at the database now and then anyway."""
        if time.monotonic() < self._publish_again_at:
            return
        try:
            self._bell.publish(progress_channel(self._claim.job_id), "")
        except redis.RedisError:
            self._publish_again_at = time.monotonic() + SILENT_BROKER_SECONDS


def describe_progress(
    *, step: int, num_steps: int, loss: float | None, seconds_per_step: float | None, unit: Mapping[str, int] | None
) -> dict[str, Any]:
    """The Job's ``progress``. ``eta_seconds`` covers the steps that are left, and is None after the last."""
    left = None if seconds_per_step is None or step >= num_steps else round((num_steps - step) * seconds_per_step, 1)
    return {
        "step": step,
        "num_steps": num_steps,
        "percent": round(100 * step / num_steps, 1),
        "seconds_per_step": None if seconds_per_step is None else round(seconds_per_step, 4),
        "eta_seconds": left,
        "loss": None if loss is None else round(loss, 6),
        **({"units_done": unit["done"], "units_total": unit["total"]} if unit else {}),
    }
