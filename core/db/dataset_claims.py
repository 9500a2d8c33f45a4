"""The workers' side of datasets, over leases.py: claim one that needs validation, and commit the findings."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, null, select
from sqlalchemy.orm import Session

from core.db import leases
from core.db.leases import MAX_DEATHS, RowClaim
from core.db.tables import Dataset, DatasetFile
from core.domain.dataset import DatasetManifest, DatasetReport
from core.domain.errors import AtelierError, describe_problem
from core.domain.revision import Crops
from core.domain.states import DatasetStatus

_GIVEN_UP = describe_problem(
    "internal",
    "The dataset could not be validated",
    f"Its validation was started {MAX_DEATHS} times, and each time the worker died. Upload the files as "
    "a new dataset, a few at a time to find the faulty one, or ask the operator to read the cpu worker's log.",
)


_NO_DRAFT = {"manifest": null(), "crops": null()}
"""A rejected revision uses no image any more."""


@dataclass(frozen=True)
class ReceivedFile:
    """A file as it was uploaded. ``size`` in bytes, ``sha256`` in hexadecimal."""

    filename: str
    key: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Draft:
    """A revision as the API left it: images and, by name, the parts of them that are to take their places."""

    manifest: DatasetManifest
    crops: Crops


@dataclass(frozen=True)
class ValidationClaim(RowClaim):
    """A worker's claim: the dataset under one attempt. It has files, or is the draft of a revision."""

    files: tuple[ReceivedFile, ...]
    draft: Draft | None = None


def claim_validation(session: Session, *, lease_seconds: float) -> ValidationClaim | None:
    row = leases.claim(session, Dataset, lease_seconds=lease_seconds)
    return None if row is None else ValidationClaim(row.id, row.attempt, _list_files(session, row.id), _draft_of(row))


def commit_ready(session: Session, claim: ValidationClaim, manifest: DatasetManifest, report: DatasetReport) -> bool:
    return _end(
        session,
        claim,
        DatasetStatus.READY,
        manifest=manifest.model_dump(mode="json"),
        manifest_sha256=manifest.content_hash(),
        report=report.model_dump(mode="json"),
        crops=null(),
    )


def commit_rejected(session: Session, claim: ValidationClaim, error: AtelierError, report: DatasetReport) -> bool:
    return _end(
        session,
        claim,
        DatasetStatus.REJECTED,
        error=error.describe(),
        report=report.model_dump(mode="json"),
        **_NO_DRAFT,
    )


def expire_validations(session: Session) -> list[Dataset]:
    """Takes back every dataset whose worker lost its lease; rejects one at its last death. For the steward."""
    return leases.take_back(
        session,
        Dataset,
        {"status": DatasetStatus.REJECTED, "error": _GIVEN_UP, "validated_at": func.clock_timestamp(), **_NO_DRAFT},
    )


def _list_files(session: Session, dataset_id: str) -> tuple[ReceivedFile, ...]:
    query = select(DatasetFile).where(DatasetFile.dataset_id == dataset_id).order_by(DatasetFile.filename)
    return tuple(ReceivedFile(f.filename, f.key, f.sha256, f.size) for f in session.execute(query).scalars())


def _draft_of(row: Dataset) -> Draft | None:
    if row.crops is None:
        return None
    return Draft(DatasetManifest.model_validate(row.manifest), Crops.model_validate(row.crops))


def _end(session: Session, claim: ValidationClaim, status: DatasetStatus, **values: Any) -> bool:
    return leases.end(session, Dataset, claim, status, validated_at=func.clock_timestamp(), **values)
