"""The clients' side of datasets: create, fill, finalize, read, delete. The workers' side is in dataset_claims.py."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from sqlalchemy import delete, func, literal, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session, undefer

from core.db import audit
from core.db.own_rows import get_own
from core.db.paging import read_page
from core.db.tables import Dataset, DatasetFile, Job, JobDataset
from core.domain.audit import Action
from core.domain.dataset import ManifestImage
from core.domain.errors import WrongState
from core.domain.revision import Revision
from core.domain.states import DatasetStatus


@dataclass(frozen=True)
class NewFile:
    """A received file: its object is in storage under ``key``; ``size`` in bytes."""

    id: str
    filename: str
    key: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Totals:
    """``files_sha256`` hashes a line ``name`` and a line ``sha256`` for each file, by name as UTF-8; None without
    files. The Python client computes the same before it sends the files."""

    num_files: int
    num_bytes: int
    files_sha256: str | None = None


@dataclass(frozen=True)
class NewRevision:
    """The columns of a revision; while there are ``crops`` to make, its report and hash are not known."""

    manifest: dict[str, Any]
    manifest_sha256: str | None
    report: dict[str, Any] | None
    crops: dict[str, Any] | None

    @classmethod
    def of(cls, revision: Revision) -> Self:
        """Takes seconds for thousands of images: outside of transactions."""
        manifest, crops = revision.manifest.model_dump(mode="json"), revision.crops()
        if crops is not None:
            return cls(manifest, None, None, crops.model_dump(mode="json"))
        return cls(manifest, revision.manifest.content_hash(), revision.report().model_dump(mode="json"), None)


def insert_dataset(
    session: Session, *, dataset_id: str, tenant_id: str, name: str | None, status: DatasetStatus
) -> Dataset:
    """The caller gives the id, because files may be stored under it before the row exists."""
    dataset = Dataset(id=dataset_id, tenant_id=tenant_id, name=name, status=status)
    session.add(dataset)
    session.flush()
    session.refresh(dataset)
    audit.record(session, Action.DATASET_CREATED, dataset_id)
    return dataset


def insert_revision(
    session: Session, *, dataset_id: str, tenant_id: str, name: str | None, parent_id: str, new: NewRevision
) -> Dataset:
    """Ready at once or, if there are images to crop, for a worker. The caller holds the rows locked of all datasets
    that it shares images of."""
    status = DatasetStatus.READY if new.crops is None else DatasetStatus.VALIDATING
    dataset = insert_dataset(session, dataset_id=dataset_id, tenant_id=tenant_id, name=name, status=status)
    dataset.parent_id, dataset.manifest = parent_id, new.manifest
    if new.crops is not None:
        dataset.crops = new.crops
    else:
        dataset.manifest_sha256, dataset.report = new.manifest_sha256, new.report
        dataset.validated_at = dataset.created_at
    session.flush()
    return dataset


def get_dataset(
    session: Session, tenant_id: str, dataset_id: str, *, lock: bool = False, whole: bool = False
) -> Dataset:
    """Raises NotFound, also for another tenant's. ``lock`` holds the row until the transaction ends; ``whole`` also
    reads the manifest and its folders, since a second read may find the row deleted."""
    deferred = (undefer(Dataset.manifest), undefer(Dataset.image_folders)) if whole else ()
    return get_own(session, Dataset, "dataset", tenant_id, dataset_id, lock=lock, options=deferred)


def list_datasets(
    session: Session,
    tenant_id: str,
    *,
    status: DatasetStatus | None = None,
    parent: str | None = None,
    after: str | None = None,
    limit: int = 20,
) -> tuple[list[Dataset], bool]:
    """Newest first, by id; and whether there are more. ``parent``: only revisions of it."""
    query = select(Dataset).where(Dataset.tenant_id == tenant_id)
    if status is not None:
        query = query.where(Dataset.status == status)
    if parent is not None:
        query = query.where(Dataset.parent_id == parent)
    return read_page(session, query, Dataset.id, after, limit)


def list_covers(session: Session, dataset_ids: Sequence[str]) -> dict[str, ManifestImage]:
    """By dataset, the first image of those that are ready."""
    cover = Dataset.manifest["images"][0].label("cover")
    ready = (Dataset.id.in_(dataset_ids), Dataset.status == DatasetStatus.READY)
    rows = session.execute(select(Dataset.id, cover).where(*ready))
    return {row.id: ManifestImage.model_validate(row.cover) for row in rows}


def lock_open_dataset(session: Session, tenant_id: str, dataset_id: str) -> Dataset:
    """Raises NotFound, or WrongState if the dataset accepts no more files."""
    dataset = get_dataset(session, tenant_id, dataset_id, lock=True)
    if dataset.status != DatasetStatus.OPEN:
        raise WrongState(f"Dataset {dataset_id} is {dataset.status} and accepts no more files; create a new one.")
    return dataset


def insert_files(session: Session, dataset_id: str, files: Sequence[NewFile]) -> None:
    """The caller ensures that no name occurs twice."""
    session.add_all(DatasetFile(dataset_id=dataset_id, **asdict(file)) for file in files)
    session.flush()


def put_file(session: Session, dataset_id: str, file: NewFile) -> str | None:
    """Adds a file, or replaces the one of the same name and returns that one's storage key.

    The caller holds the dataset's row locked.
    """
    replaced = session.execute(
        delete(DatasetFile)
        .where(DatasetFile.dataset_id == dataset_id, DatasetFile.filename == file.filename)
        .returning(DatasetFile.key)
    ).scalar_one_or_none()
    insert_files(session, dataset_id, [file])
    return replaced


def list_filenames(session: Session, dataset_id: str) -> Sequence[str]:
    query = select(DatasetFile.filename).where(DatasetFile.dataset_id == dataset_id)
    return session.execute(query).scalars().all()


def list_files(session: Session, dataset_id: str) -> Sequence[DatasetFile]:
    query = select(DatasetFile).where(DatasetFile.dataset_id == dataset_id).order_by(DatasetFile.filename)
    return session.execute(query).scalars().all()


def get_file(session: Session, file_id: str) -> DatasetFile:
    """A file that this transaction has added."""
    return session.execute(select(DatasetFile).where(DatasetFile.id == file_id)).scalar_one()


def total_files(session: Session, dataset_id: str) -> Totals:
    return total_files_of(session, [dataset_id]).get(dataset_id, Totals(0, 0))


def total_files_of(session: Session, dataset_ids: Sequence[str]) -> Mapping[str, Totals]:
    """Omits datasets without files."""
    line = func.concat(DatasetFile.filename, "\n", DatasetFile.sha256, "\n")
    lines = func.string_agg(line, aggregate_order_by(literal(""), DatasetFile.filename.collate("C")))
    query = (
        select(
            DatasetFile.dataset_id,
            func.count(),
            func.sum(DatasetFile.size),
            func.encode(func.sha256(func.convert_to(lines, "UTF8")), "hex"),
        )
        .where(DatasetFile.dataset_id.in_(dataset_ids))
        .group_by(DatasetFile.dataset_id)
    )
    return {row[0]: Totals(row[1], int(row[2]), row[3]) for row in session.execute(query)}


def delete_dataset(session: Session, tenant_id: str, dataset_id: str) -> frozenset[str]:
    """Rows only. Returns the datasets, by id, whose folders in storage may have files now that no row names: its own,
    and those that it shared images of. The caller then cleans these. Raises NotFound, WrongState."""
    dataset = get_dataset(session, tenant_id, dataset_id, lock=True, whole=True)
    folders = frozenset({dataset_id, *(dataset.image_folders or ())})
    users = select(Job.id).where(Job.dataset_id == dataset_id, Job.tenant_id == tenant_id)
    further = select(JobDataset.job_id).where(JobDataset.dataset_id == dataset_id)
    user = session.execute(users.union_all(further).limit(1)).scalar_one_or_none()
    if user is not None:
        raise WrongState(f"Dataset {dataset_id} is used by {user}: delete its jobs first.")
    session.execute(delete(Dataset).where(Dataset.id == dataset_id, Dataset.tenant_id == tenant_id))
    audit.record(session, Action.DATASET_DELETED, dataset_id)
    return folders
