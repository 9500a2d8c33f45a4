"""Holds a dataset while it is examined: a thread renews the lease, the work asks now and then whether to go on."""

import logging
import threading
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from core.db.validation import ValidationClaim, renew_validation

log = logging.getLogger(__name__)


class LeaseLost(Exception):
    """Another worker has the dataset, or it was deleted: write nothing."""


class Draining(Exception):
    """This worker was asked to end."""


class Lease:
    """A database out of reach is not a lost lease: the work goes on, and the commit will tell."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        claim: ValidationClaim,
        *,
        lease_seconds: float,
        heartbeat_seconds: float,
        drain: threading.Event,
    ) -> None:
        self._sessions, self._claim, self._drain = sessions, claim, drain
        self._lease_seconds, self._heartbeat_seconds = lease_seconds, heartbeat_seconds
        self._lost, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {claim.dataset_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # No renewal may come after the claim is given back: its number is given out again.
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Raises LeaseLost or Draining."""
        if self._lost.is_set():
            raise LeaseLost(self._claim.dataset_id)
        if self._drain.is_set():
            raise Draining(self._claim.dataset_id)

    def _renew(self) -> None:
        while not self._over.wait(self._heartbeat_seconds):
            try:
                with self._sessions.begin() as session:
                    held = renew_validation(session, self._claim, lease_seconds=self._lease_seconds)
            except SQLAlchemyError as error:
                log.warning("the lease on %s could not be renewed: %s", self._claim.dataset_id, error)
                continue
            if not held:
                self._lost.set()
                return
