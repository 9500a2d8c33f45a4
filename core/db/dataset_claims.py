"""The workers' side of datasets: claim one that needs validation, hold it, and commit the findings.

The fence is the attempt number together with the lease: a write succeeds only while this very attempt holds the
row. ``False`` means that it no longer does: stop, write nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from core.db.deferrals import defer, is_claimable
from core.db.session import read_clock
from core.db.tables import Dataset, DatasetFile
from core.domain.dataset import DatasetManifest, DatasetReport
from core.domain.errors import AtelierError
from core.domain.states import DatasetStatus

MAX_DEATHS = 5
_GIVEN_UP = {
    "type": "/problems/internal",
    "title": "The dataset could not be validated",
    "detail": f"Its validation was started {MAX_DEATHS} times, and each time the worker died. Upload the files as "
    "a new dataset, a few at a time to find the faulty one, or ask the operator to read the cpu worker's log.",
}


@dataclass(frozen=True)
class ReceivedFile:
    """A file as it was uploaded. ``size`` in bytes, ``sha256`` in hexadecimal."""

    filename: str
    key: str
    sha256: str
    size: int


@dataclass(frozen=True)
class ValidationClaim:
    """A worker's claim: the dataset under one attempt."""

    dataset_id: str
    attempt: int
    files: tuple[ReceivedFile, ...]


def claim_validation(session: Session, *, lease_seconds: float) -> ValidationClaim | None:
    """Takes the oldest waiting dataset, or None. Datasets that killed workers come last."""
    waiting = (
        select(Dataset.id)
        .where(Dataset.status == DatasetStatus.VALIDATING, is_claimable(Dataset))
        .order_by(Dataset.attempt, Dataset.created_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    claim = (
        update(Dataset)
        .where(Dataset.id == waiting)
        .values(attempt=Dataset.attempt + 1, lease_until=_from_now(lease_seconds))
        .returning(Dataset.id, Dataset.attempt)
    )
    row = session.execute(claim).first()
    return ValidationClaim(row[0], row[1], _list_files(session, row[0])) if row else None


def renew_validation(session: Session, claim: ValidationClaim, *, lease_seconds: float) -> bool:
    return _write(session, claim, lease_until=_from_now(lease_seconds))


def commit_ready(session: Session, claim: ValidationClaim, manifest: DatasetManifest, report: DatasetReport) -> bool:
    return _end(
        session,
        claim,
        DatasetStatus.READY,
        manifest=manifest.model_dump(mode="json"),
        manifest_sha256=manifest.content_hash(),
        report=report.model_dump(mode="json"),
    )


def commit_rejected(session: Session, claim: ValidationClaim, error: AtelierError, report: DatasetReport) -> bool:
    return _end(
        session,
        claim,
        DatasetStatus.REJECTED,
        error=_error_of(error),
        report=report.model_dump(mode="json"),
    )


def release_validation(session: Session, claim: ValidationClaim, waiting_reason: str | None = None) -> bool:
    """For a worker that drains, or that cannot continue for a reason outside of the dataset (``waiting_reason``, which
    defers it). The attempt is not counted, and its number may be used again: no other worker ever held it.
    """
    deferral = {} if waiting_reason is None else defer(Dataset, waiting_reason)
    return _write(session, claim, lease_until=None, attempt=claim.attempt - 1, **deferral)


def expire_validations(session: Session) -> list[Dataset]:
    """Takes back every dataset whose worker lost its lease; rejects one at its last death. For the steward."""
    expired = (
        select(Dataset)
        .where(Dataset.status == DatasetStatus.VALIDATING, Dataset.lease_until < func.clock_timestamp())
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    datasets = list(session.execute(expired).scalars())
    for dataset in datasets:
        dataset.lease_until = None
        if dataset.attempt >= MAX_DEATHS:
            dataset.status = DatasetStatus.REJECTED
            dataset.error = dict(_GIVEN_UP)
            dataset.validated_at = read_clock(session)
    session.flush()
    return datasets


def is_dataset_gone(session: Session, dataset_id: str) -> bool:
    return session.execute(select(Dataset.id).where(Dataset.id == dataset_id)).first() is None


def _list_files(session: Session, dataset_id: str) -> tuple[ReceivedFile, ...]:
    query = select(DatasetFile).where(DatasetFile.dataset_id == dataset_id).order_by(DatasetFile.filename)
    return tuple(ReceivedFile(f.filename, f.key, f.sha256, f.size) for f in session.execute(query).scalars())


def _end(session: Session, claim: ValidationClaim, status: DatasetStatus, **values: Any) -> bool:
    ended = {"status": status, "lease_until": None, "waiting_reason": None, "validated_at": func.clock_timestamp()}
    return _write(session, claim, **ended, **values)


def _write(session: Session, claim: ValidationClaim, **values: Any) -> bool:
    held = (
        Dataset.id == claim.dataset_id,
        Dataset.attempt == claim.attempt,
        Dataset.status == DatasetStatus.VALIDATING,
        Dataset.lease_until.is_not(None),
    )
    return session.execute(update(Dataset).where(*held).values(**values).returning(Dataset.id)).first() is not None


def _error_of(error: AtelierError) -> Mapping[str, str]:
    return {"type": f"/problems/{error.slug}", "title": error.title, "detail": error.detail}


def _from_now(seconds: float) -> Any:
    return func.clock_timestamp() + timedelta(seconds=seconds)
