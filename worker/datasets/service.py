"""Validates uploaded datasets, one at a time."""

import logging
from collections.abc import Callable

from sqlalchemy.orm import Session

from core.db.dataset_claims import ValidationClaim, claim_validation, commit_ready, commit_rejected
from core.db.references import list_dataset_references
from core.db.tables import Dataset
from core.domain.artifacts import dataset_prefix
from core.domain.errors import UserError
from core.settings import Settings
from core.storage import Storage, StorageError
from worker.consumer import open_consumer
from worker.datasets.examination import Examination
from worker.datasets.sandbox import Sandbox, ScratchFailed, limits_from
from worker.scratch import open_scratch

Examined = tuple[Examination, UserError | None]

log = logging.getLogger(__name__)


def validate_next(settings: Settings) -> bool:
    """Validates the oldest waiting dataset; False if there is none, or this worker is shutting down.

    Raises failures outside of the dataset: SQLAlchemyError, StorageError, ScratchFailed.
    """
    return open_consumer(Validation, settings).run_next()


class Validation:
    """A ``Check`` of datasets."""

    table = Dataset
    outages = (StorageError, ScratchFailed)
    obstacles = ()

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings, self._storage = settings, storage

    def claim(self, session: Session, *, lease_seconds: float) -> ValidationClaim | None:
        return claim_validation(session, lease_seconds=lease_seconds)

    def run(self, claim: ValidationClaim, check_lease: Callable[[], None]) -> Examined:
        with open_scratch() as scratch, Sandbox(limits_from(self._settings), check_lease) as sandbox:
            examination = Examination(
                claim.id,
                self._storage,
                sandbox,
                scratch,
                max_images=self._settings.max_images,
                check=check_lease,
            )
            try:
                examination.run(claim.files)
            except UserError as error:
                return examination, error
            return examination, None

    def commit(self, session: Session, claim: ValidationClaim, result: Examined) -> bool:
        examination, error = result
        findings = examination.findings
        if error is None:
            return commit_ready(session, claim, findings.manifest(), findings.report())
        return commit_rejected(session, claim, error, findings.report())

    def finish(self, claim: ValidationClaim, result: Examined) -> None:
        examination, error = result
        log.info("%s is %s", claim.id, "ready" if error is None else f"rejected: {error.detail}")
        for file in claim.files:
            self._storage.delete(file.key)
        for image in examination.findings.images if error else ():
            self._storage.delete(image.key)

    def prefix_of(self, claim: ValidationClaim) -> str:
        return dataset_prefix(claim.id)

    def list_references(self, session: Session, row_id: str) -> frozenset[str] | None:
        return list_dataset_references(session, row_id)
