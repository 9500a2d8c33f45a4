"""Renews the lease of a running job from a thread of its own."""

import logging
import threading
from collections.abc import Callable
from typing import Self

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from core.db import job_claims
from core.db.job_claims import Claim, LostLease
from core.domain.states import JobStatus

log = logging.getLogger("atelier.heartbeat")


class Heartbeat:
    """Renews the lease every few seconds, and reads the status that the job's clients have requested.

    ``on_beat`` is called after each renewal, and may raise what the database raises. A database out of reach is not a
    lost lease.
    """

    def __init__(
        self,
        sessions: sessionmaker[Session],
        claim: Claim,
        *,
        beat_seconds: float,
        lease_seconds: float,
        on_beat: Callable[[], None],
    ) -> None:
        self._sessions, self._claim, self._on_beat = sessions, claim, on_beat
        self._beat_seconds, self._lease_seconds = beat_seconds, lease_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"heartbeat-{claim.job_id}")
        self.requested_status = JobStatus.RUNNING
        self.lease_lost = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=self._beat_seconds + 5)

    def raise_if_lost(self) -> None:
        """Raises LostLease."""
        if self.lease_lost:
            raise LostLease(self._claim)

    def _run(self) -> None:
        while not self._ended.wait(self._beat_seconds) and not self.lease_lost:
            try:
                with self._sessions.begin() as session:
                    self.requested_status = job_claims.renew_lease(
                        session, self._claim, lease_seconds=self._lease_seconds
                    )
                self._on_beat()
            except LostLease:
                self.lease_lost = True
            except (DBAPIError, PoolTimeoutError):
                log.warning("no heartbeat for %s: the database does not answer", self._claim.job_id)
