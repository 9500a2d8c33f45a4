"""Holds a dataset or an import while it is checked: a thread renews the lease; the work asks whether to continue."""

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from core.db.leases import LostLease

log = logging.getLogger(__name__)


class Draining(Exception):
    """This worker was asked to shut down."""


class Lease:
    """``renew`` returns whether the claim still stands; ``name`` is for the log.

    An unreachable database is not a lost lease: the work continues, and the commit decides.
    """

    def __init__(
        self,
        sessions: sessionmaker[Session],
        name: str,
        renew: Callable[[Session], bool],
        *,
        heartbeat_seconds: float,
        drain: threading.Event,
    ) -> None:
        self._sessions, self._name, self._ask, self._drain = sessions, name, renew, drain
        self._heartbeat_seconds = heartbeat_seconds
        self._lost, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # No renewal may follow the release of the claim: its number may be used again.
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Raises LostLease or Draining."""
        if self._lost.is_set():
            raise LostLease(self._name)
        if self._drain.is_set():
            raise Draining(self._name)

    def _renew(self) -> None:
        while not self._over.wait(self._heartbeat_seconds):
            try:
                with self._sessions.begin() as session:
                    held = self._ask(session)
            except SQLAlchemyError as error:
                log.warning("the lease on %s could not be renewed: %s", self._name, error)
                continue
            if not held:
                self._lost.set()
                return
