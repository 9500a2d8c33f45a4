"""Validates uploaded datasets, one at a time."""

import logging
from collections.abc import Callable
from functools import partial

from sqlalchemy.orm import Session

from core.db.dataset_claims import ValidationClaim, claim_validation, commit_ready, commit_rejected
from core.db.references import list_dataset_references
from core.db.tables import Dataset
from core.domain.artifacts import dataset_prefix
from core.domain.errors import UserError
from core.settings import Settings
from core.storage import Storage, StorageError
from worker.consumer import open_consumer
from worker.datasets.cropping import Cropped, Cropping
from worker.datasets.examination import Examination
from worker.datasets.findings import Findings
from worker.datasets.sandbox import Sandbox, ScratchFailed, limits_from
from worker.scratch import open_scratch

Examined = tuple[Findings | Cropped, UserError | None]

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
            if claim.draft is not None:
                cropping = Cropping(claim.id, claim.draft, self._storage, sandbox, scratch, check_lease)
                return cropping.findings, _catch(cropping.run)
            examination = Examination(
                claim.id,
                self._storage,
                sandbox,
                scratch,
                max_images=self._settings.max_images,
                check=check_lease,
            )
            return examination.findings, _catch(partial(examination.run, claim.files))

    def commit(self, session: Session, claim: ValidationClaim, result: Examined) -> bool:
        findings, error = result
        if error is None:
            return commit_ready(session, claim, findings.manifest(), findings.report())
        return commit_rejected(session, claim, error, findings.report())

    def finish(self, claim: ValidationClaim, result: Examined) -> None:
        findings, error = result
        log.info("%s is %s", claim.id, "ready" if error is None else f"rejected: {error.detail}")
        for file in claim.files:
            self._storage.delete(file.key)
        own = dataset_prefix(claim.id)  # a revision's other images are those of its parent
        for key in [image.key for image in findings.images if image.key.startswith(own)] if error else ():
            self._storage.delete(key)

    def prefix_of(self, claim: ValidationClaim) -> str:
        return dataset_prefix(claim.id)

    def list_references(self, session: Session, row_id: str) -> frozenset[str] | None:
        return list_dataset_references(session, row_id)


def _catch(run: Callable[[], None]) -> UserError | None:
    """The fault of the dataset, if there is one."""
    try:
        run()
    except UserError as error:
        return error
    return None
