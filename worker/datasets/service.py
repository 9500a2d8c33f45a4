"""Validates uploaded datasets, one at a time."""

import functools
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from core.db.dataset_claims import (
    ReceivedFile,
    ValidationClaim,
    claim_validation,
    commit_ready,
    commit_rejected,
    keep_file,
)
from core.db.dataset_claims import Sources as ClaimedSources
from core.db.datasets import NewFile
from core.db.references import list_dataset_references
from core.db.session import make_sessions, open_engine
from core.db.tables import Dataset
from core.domain.artifacts import dataset_prefix
from core.domain.errors import DatasetRejected, UserError
from core.settings import Settings
from core.storage import Storage, StorageError
from worker.consumer import open_consumer
from worker.datasets.cropping import Cropped, Cropping
from worker.datasets.examination import Examination
from worker.datasets.findings import Findings
from worker.datasets.sandbox import Sandbox, ScratchFailed, limits_from
from worker.datasets.sources import Fetched, Sources
from worker.outgoing import Outgoing
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
    outages = (StorageError, ScratchFailed, OSError)
    obstacles = ()

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings, self._storage = settings, storage

    def claim(self, session: Session, *, lease_seconds: float) -> ValidationClaim | None:
        return claim_validation(session, lease_seconds=lease_seconds, defaults=self._settings.default_limits)

    def run(self, claim: ValidationClaim, check_lease: Callable[[], None]) -> Examined:
        with open_scratch() as scratch, Sandbox(limits_from(self._settings), check_lease) as sandbox:
            if claim.draft is not None:
                cropping = Cropping(claim.id, claim.draft, self._storage, sandbox, scratch, check_lease)
                return cropping.findings, _catch(cropping.run)
            fetched, files = Fetched(), claim.files
            if claim.sources is not None:
                try:
                    fetched = self._fetch(claim, claim.sources, scratch, check_lease)
                except DatasetRejected as error:
                    return Findings(), error
                files = tuple(ReceivedFile(f.filename, f.key, f.sha256, f.size) for f in fetched.files)
            examination = Examination(
                claim.id,
                self._storage,
                sandbox,
                scratch,
                max_images=self._settings.max_images,
                check=check_lease,
                fetched=fetched.paths,
            )
            examination.findings.miss(fetched.failed)
            return examination.findings, _catch(partial(examination.run, files))

    def _fetch(
        self, claim: ValidationClaim, sources: ClaimedSources, scratch: Path, check_lease: Callable[[], None]
    ) -> Fetched:
        """Raises DatasetRejected."""

        def keep(file: NewFile) -> None:
            with _open_sessions(self._settings).begin() as session:
                keep_file(session, claim, file)

        settings = self._settings
        most = settings.max_upload_bytes if sources.room is None else min(sources.room, settings.max_upload_bytes)
        outgoing = Outgoing(settings.fetch_allow, timeout_seconds=settings.fetch_timeout_seconds)
        fetching = Sources(claim.id, settings, outgoing, scratch, room=most, keep=keep, check=check_lease)
        return fetching.fetch(sources.urls)

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


@functools.cache
def _open_sessions(settings: Settings) -> sessionmaker[Session]:
    """One per process; never opened before a fork."""
    return make_sessions(open_engine(settings.database_url, pool_size=1))


def _catch(run: Callable[[], None]) -> UserError | None:
    """The fault of the dataset, if there is one."""
    try:
        run()
    except UserError as error:
        return error
    return None
