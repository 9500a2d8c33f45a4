"""Validates uploaded datasets, one at a time: claim, examine, commit under the fence."""

import contextlib
import functools
import logging
import threading

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from core.db import leases
from core.db.dataset_claims import ValidationClaim, claim_validation, commit_ready, commit_rejected
from core.db.leases import LostLease
from core.db.session import make_sessions, open_engine
from core.db.tables import Dataset
from core.domain.artifacts import dataset_prefix
from core.domain.errors import UserError
from core.settings import Settings
from core.storage import Storage, StorageError, open_store_of
from worker import drain
from worker.datasets.examination import Examination
from worker.datasets.sandbox import Sandbox, ScratchFailed, limits_from
from worker.deferrals import explain_waiting
from worker.lease import Draining, Lease
from worker.scratch import open_scratch

log = logging.getLogger(__name__)


def validate_next(settings: Settings) -> bool:
    """Validates the oldest waiting dataset; False if there is none, or this worker is shutting down.

    Raises failures outside of the dataset: SQLAlchemyError, StorageError, ScratchFailed.
    """
    return open_validator(settings).validate_next()


@functools.cache
def open_validator(settings: Settings) -> "Validator":
    """One per process: its connections live as long. Never opened before a fork."""
    sessions = make_sessions(open_engine(settings.database_url, pool_size=2))
    return Validator(settings, sessions, open_store_of(settings), drain.requested)


class Validator:
    """One worker's access to the waiting datasets."""

    def __init__(
        self, settings: Settings, sessions: sessionmaker[Session], storage: Storage, drain: threading.Event
    ) -> None:
        self._settings, self._sessions, self._storage, self._drain = settings, sessions, storage, drain

    def validate_next(self) -> bool:
        if self._drain.is_set():
            return False
        with self._sessions.begin() as session:
            claim = claim_validation(session, lease_seconds=self._settings.lease_seconds)
        if claim is None:
            return False
        self._validate(claim)
        return True

    def _validate(self, claim: ValidationClaim) -> None:
        try:
            examination, error = self._examine(claim)
        except LostLease:
            log.warning("the lease on %s was lost; nothing is written", claim.id)
            self._clear_deleted(claim)
        except Draining:
            self._give_back(claim)
        except SQLAlchemyError:
            self._give_back(claim)
            raise
        except (StorageError, ScratchFailed) as trouble:
            self._give_back(claim, explain_waiting(trouble))
            raise
        else:
            self._commit(claim, examination, error)

    def _examine(self, claim: ValidationClaim) -> tuple[Examination, UserError | None]:
        """Within the lease. Faults of the set are returned."""
        with (
            self._hold(claim) as lease,
            open_scratch() as scratch,
            Sandbox(limits_from(self._settings), lease.check) as sandbox,
        ):
            examination = Examination(
                claim.id,
                self._storage,
                sandbox,
                scratch,
                max_images=self._settings.max_images,
                check=lease.check,
            )
            try:
                examination.run(claim.files)
            except UserError as error:
                return examination, error
            return examination, None

    def _hold(self, claim: ValidationClaim) -> Lease:
        return Lease(
            self._sessions,
            claim.id,
            lambda session: leases.renew(session, Dataset, claim, lease_seconds=self._settings.lease_seconds),
            heartbeat_seconds=self._settings.heartbeat_seconds,
            drain=self._drain,
        )

    def _commit(self, claim: ValidationClaim, examination: Examination, error: UserError | None) -> None:
        """Storage is cleared only after the row has the outcome, and only by the worker that wrote it."""
        findings = examination.findings
        with self._sessions.begin() as session:
            if error is None:
                held = commit_ready(session, claim, findings.manifest(), findings.report())
            else:
                held = commit_rejected(session, claim, error, findings.report())
        if not held:
            self._clear_deleted(claim)
            return
        log.info("%s is %s", claim.id, "ready" if error is None else f"rejected: {error.detail}")
        for file in claim.files:
            self._storage.delete(file.key)
        for image in findings.images if error else ():
            self._storage.delete(image.key)

    def _clear_deleted(self, claim: ValidationClaim) -> None:
        """A set that was deleted meanwhile may have received images after its files were removed."""
        with self._sessions() as session:
            gone = leases.is_gone(session, Dataset, claim.id)
        if gone:
            self._storage.delete_prefix(dataset_prefix(claim.id))

    def _give_back(self, claim: ValidationClaim, waiting_reason: str | None = None) -> None:
        """If the database is away too, the lease runs out by itself."""
        with contextlib.suppress(SQLAlchemyError), self._sessions.begin() as session:
            leases.release(session, Dataset, claim, waiting_reason)
