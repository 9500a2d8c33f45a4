"""Checks one waiting upload: claims it, works on it under its lease, and commits under the fence."""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from core.db import leases
from core.db.leases import LostLease, RowClaim
from core.db.session import make_sessions, open_engine
from core.db.tables import Checked
from core.settings import Settings
from core.storage import Storage, delete_others, open_store_of
from worker import drain
from worker.deferrals import explain_waiting
from worker.lease import Draining, Lease

Claim = TypeVar("Claim", bound=RowClaim)
Result = TypeVar("Result")

log = logging.getLogger(__name__)


class Check(Protocol[Claim, Result]):
    """The check of one kind of uploads. ``outages`` and ``obstacles`` are failures outside of the upload, which defer
    it: outages concern other uploads too and are raised, obstacles are logged."""

    @property
    def table(self) -> type[Checked]: ...

    @property
    def outages(self) -> tuple[type[Exception], ...]: ...

    @property
    def obstacles(self) -> tuple[type[Exception], ...]: ...

    def claim(self, session: Session, *, lease_seconds: float) -> Claim | None:
        """The upload that has waited longest, or None."""

    def run(self, claim: Claim, check_lease: Callable[[], None]) -> Result:
        """Faults of the upload are part of the result. ``check_lease`` raises if the work must end."""

    def commit(self, session: Session, claim: Claim, result: Result) -> bool:
        """False if the claim no longer stands."""

    def finish(self, claim: Claim, result: Result) -> None:
        """Called once the result is committed: removes what is no longer needed from storage."""

    def prefix_of(self, claim: Claim) -> str:
        """Where in storage its files are."""

    def list_references(self, session: Session, row_id: str) -> frozenset[str] | None:
        """The keys there that rows name (core/db/references.py)."""


class Consumer(Generic[Claim, Result]):
    """One worker's access to the uploads that wait for a check."""

    def __init__(
        self,
        make_check: Callable[[Settings, Storage], Check[Claim, Result]],
        settings: Settings,
        sessions: sessionmaker[Session],
        storage: Storage,
        drain: threading.Event,
    ) -> None:
        self._settings, self._sessions, self._storage, self._drain = settings, sessions, storage, drain
        self._check = make_check(settings, storage)

    def run_next(self) -> bool:
        """Checks the upload that has waited longest; False if none waits, or this worker is shutting down.

        Raises failures outside of the upload: SQLAlchemyError, and the check's ``outages``.
        """
        if self._drain.is_set():
            return False
        with self._sessions.begin() as session:
            claim = self._check.claim(session, lease_seconds=self._settings.lease_seconds)
        if claim is None:
            return False
        self._run(claim)
        return True

    def _run(self, claim: Claim) -> None:
        try:
            with self._hold(claim) as lease:
                result = self._check.run(claim, lease.check)
        except LostLease:
            log.warning("the lease on %s was lost; nothing is written", claim.id)
            self._clear_deleted(claim)
        except Draining:
            self._release(claim)
        except self._check.obstacles as error:
            log.error("%s is deferred: %s", claim.id, error)
            self._release(claim, explain_waiting(error))
        except SQLAlchemyError:
            self._release(claim)
            raise
        except self._check.outages as error:
            self._release(claim, explain_waiting(error))
            raise
        else:
            self._commit(claim, result)

    def _hold(self, claim: Claim) -> Lease:
        def renew(session: Session) -> bool:
            return leases.renew(session, self._check.table, claim, lease_seconds=self._settings.lease_seconds)

        heartbeat_seconds = self._settings.heartbeat_seconds
        return Lease(self._sessions, claim.id, renew, heartbeat_seconds=heartbeat_seconds, drain=self._drain)

    def _commit(self, claim: Claim, result: Result) -> None:
        with self._sessions.begin() as session:
            held = self._check.commit(session, claim, result)
        if held:
            self._check.finish(claim, result)
        else:
            self._clear_deleted(claim)

    def _clear_deleted(self, claim: Claim) -> None:
        """An upload that was deleted meanwhile may have received files after its own were removed. Another worker may
        have finished it before, and revisions share its images."""
        with self._sessions() as session:
            gone = leases.is_gone(session, self._check.table, claim.id)
            needed = self._check.list_references(session, claim.id) if gone else None
        if needed is not None:
            delete_others(self._storage, self._check.prefix_of(claim), needed)

    def _release(self, claim: Claim, waiting_reason: str | None = None) -> None:
        """If the database is away too, the lease runs out by itself."""
        with contextlib.suppress(SQLAlchemyError), self._sessions.begin() as session:
            leases.release(session, self._check.table, claim, waiting_reason)


@functools.cache
def open_consumer(make_check: Callable[[Settings, Storage], Check[Any, Any]], settings: Settings) -> Consumer[Any, Any]:
    """One per process and kind: its connections live as long. Never opened before a fork."""
    sessions = make_sessions(open_engine(settings.database_url, pool_size=2))
    return Consumer(make_check, settings, sessions, open_store_of(settings), drain.requested)
