"""Renews all leases of this worker, from one thread."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from core.db import job_claims
from core.db.job_claims import Claim
from core.db.job_outputs import find_waiting_requests
from core.db.leases import LostLease
from core.db.tables import SampleRequest
from core.domain.states import JobStatus

GRACE_SECONDS = 5.0

log = logging.getLogger("atelier.heartbeat")


@dataclass(eq=False)
class HeldClaim:
    """``requested_status`` and ``sample_requests``: what clients request of the job, as of the last renewal."""

    claim: Claim
    requested_status: JobStatus = JobStatus.RUNNING
    sample_requests: Sequence[SampleRequest] = ()
    lease_lost: bool = False

    def raise_if_lost(self) -> None:
        """Raises LostLease."""
        if self.lease_lost:
            raise LostLease(self.claim)


class Heartbeats:
    """Renews the leases of the tracked claims every few seconds, in one statement.

    An unreachable database is not a lost lease. The thread lives while there is something to renew.
    """

    def __init__(self, sessions: sessionmaker[Session], *, beat_seconds: float, lease_seconds: float) -> None:
        self._sessions = sessions
        self._beat_seconds, self._lease_seconds = beat_seconds, lease_seconds
        self._held: list[HeldClaim] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    @contextmanager
    def track(self, held: HeldClaim) -> Iterator[None]:
        """The end of the last claim waits a few seconds for a renewal in flight, and the next claim not at all. A
        renewal that comes later touches no row, unless the attempt was abandoned without a write; then it prolongs the
        lease once."""
        with self._lock:
            self._held.append(held)
            if len(self._held) == 1:
                self._stopped = threading.Event()
                self._thread = threading.Thread(target=self._run, args=(self._stopped,), daemon=True, name="heartbeat")
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._held.remove(held)
                thread, is_last = self._thread, not self._held
                if is_last:
                    self._stopped.set()
            if is_last and thread is not None:
                thread.join(self._beat_seconds + GRACE_SECONDS)

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._beat_seconds):
            try:
                self._renew()
            except (DBAPIError, PoolTimeoutError):
                log.warning("no heartbeat: the database does not respond")

    def _renew(self) -> None:
        with self._lock:
            tracked = [held for held in self._held if not held.lease_lost]
        if not tracked:
            return
        with self._sessions.begin() as session:
            claims = [held.claim for held in tracked]
            statuses = job_claims.renew_leases(session, claims, lease_seconds=self._lease_seconds)
            requests = find_waiting_requests(session, [claim.job_id for claim in claims])
        for held in tracked:
            held.lease_lost = held.claim not in statuses
            held.requested_status = statuses.get(held.claim, held.requested_status)
            held.sample_requests = [request for request in requests if request.job_id == held.claim.job_id]
