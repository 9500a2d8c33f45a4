"""The workers' side of datasets, over leases.py: claim one that needs validation, and commit the findings."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, null, select
from sqlalchemy.orm import Session

from core.db import datasets, leases, quotas
from core.db.datasets import NewFile
from core.db.leases import MAX_DEATHS, LostLease, RowClaim
from core.db.tables import Dataset, DatasetFile
from core.domain.dataset import DatasetManifest, DatasetReport
from core.domain.errors import AtelierError, describe_problem
from core.domain.limits import UNLIMITED, Limits
from core.domain.revision import Crops
from core.domain.states import DatasetStatus

_GIVEN_UP = describe_problem(
    "internal",
    "The dataset could not be validated",
    f"Its validation was started {MAX_DEATHS} times, and each time the worker died. Upload the files as "
    "a new dataset, a few at a time to find the faulty one, or ask the operator to read the cpu worker's log.",
)


_NO_DRAFT = {"manifest": null(), "crops": null(), "sources": null()}
"""A rejected revision uses no image any more, and addresses, which may contain secrets, are not kept."""


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
class Sources:
    """The addresses to fetch the files from; ``room``: the bytes that the tenant may still store."""

    urls: tuple[str, ...]
    room: int | None


@dataclass(frozen=True)
class ValidationClaim(RowClaim):
    """A worker's claim: the dataset under one attempt. It has files or addresses, or is the draft of a revision."""

    files: tuple[ReceivedFile, ...]
    draft: Draft | None = None
    sources: Sources | None = None


def claim_validation(session: Session, *, lease_seconds: float, defaults: Limits = UNLIMITED) -> ValidationClaim | None:
    """``defaults``: the limits of tenants without limits of their own."""
    row = leases.claim(session, Dataset, lease_seconds=lease_seconds)
    if row is None:
        return None
    if row.sources is not None:
        # What an earlier attempt fetched was in its scratch folder.
        session.execute(delete(DatasetFile).where(DatasetFile.dataset_id == row.id))
        room = quotas.find_room(session, row.tenant_id, defaults)
        return ValidationClaim(row.id, row.attempt, (), sources=Sources(tuple(row.sources), room))
    return ValidationClaim(row.id, row.attempt, _list_files(session, row.id), _draft_of(row))


def keep_file(session: Session, claim: ValidationClaim, file: NewFile) -> None:
    """A file that was fetched. Raises LostLease."""
    held = (Dataset.id == claim.id, Dataset.attempt == claim.attempt, Dataset.lease_until.is_not(None))
    locked = select(Dataset.id).where(*held, Dataset.status == Dataset.CHECKING).with_for_update()
    if session.execute(locked).first() is None:
        raise LostLease(claim.id)
    datasets.insert_files(session, claim.id, [file])


def commit_ready(session: Session, claim: ValidationClaim, manifest: DatasetManifest, report: DatasetReport) -> bool:
    return _end(
        session,
        claim,
        DatasetStatus.READY,
        manifest=manifest.model_dump(mode="json"),
        manifest_sha256=manifest.content_hash(),
        report=report.model_dump(mode="json"),
        crops=null(),
        sources=null(),
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
