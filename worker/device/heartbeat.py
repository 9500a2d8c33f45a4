"""Renews all leases of this worker, from one thread."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from core.db import job_claims
from core.db.job_claims import Claim, LostLease
from core.domain.states import JobStatus

log = logging.getLogger("atelier.heartbeat")


@dataclass
class HeldClaim:
    """``requested_status``: the clients' request for the job, as of the last renewal."""

    claim: Claim
    requested_status: JobStatus = JobStatus.RUNNING
    lease_lost: bool = False

    def raise_if_lost(self) -> None:
        """Raises LostLease."""
        if self.lease_lost:
            raise LostLease(self.claim)


class Heartbeats:
    """Renews the leases of the tracked claims every few seconds, in one statement.

    ``on_beat`` is called after each renewal, and may raise the database's exceptions. An unreachable database is not a
    lost lease. The thread lives while there is something to renew.
    """

    def __init__(
        self,
        sessions: sessionmaker[Session],
        *,
        beat_seconds: float,
        lease_seconds: float,
        on_beat: Callable[[], None],
    ) -> None:
        self._sessions, self._on_beat = sessions, on_beat
        self._beat_seconds, self._lease_seconds = beat_seconds, lease_seconds
        self._held: dict[Claim, HeldClaim] = {}
        self._renewing = threading.Lock()
        self._stopped = threading.Event()

    @contextmanager
    def track(self, held: HeldClaim) -> Iterator[None]:
        """No renewal of the claim follows the block: another worker may hold it by then."""
        with self._renewing:
            self._held[held.claim] = held
            if len(self._held) == 1:
                self._stopped = threading.Event()
                threading.Thread(target=self._run, args=(self._stopped,), daemon=True, name="heartbeat").start()
        try:
            yield
        finally:
            is_locked = self._renewing.acquire(timeout=self._beat_seconds + 5)
            try:
                del self._held[held.claim]
                if not self._held:
                    self._stopped.set()
            finally:
                if is_locked:
                    self._renewing.release()

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._beat_seconds):
            try:
                self._renew()
                self._on_beat()
            except (DBAPIError, PoolTimeoutError):
                log.warning("no heartbeat: the database does not respond")

    def _renew(self) -> None:
        with self._renewing:
            claims = [claim for claim, held in self._held.items() if not held.lease_lost]
            if not claims:
                return
            with self._sessions.begin() as session:
                statuses = job_claims.renew_leases(session, claims, lease_seconds=self._lease_seconds)
            for claim in claims:
                if (held := self._held.get(claim)) is not None:  # untracked meanwhile, after a long wait
                    held.lease_lost = claim not in statuses
                    held.requested_status = statuses.get(claim, held.requested_status)
