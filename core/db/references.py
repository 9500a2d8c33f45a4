"""Which objects in storage are still named by a row. A new column that names keys must be added here."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from core.db.tables import (
    DEFAULT_TENANT,
    Adapter,
    Dataset,
    DatasetFile,
    Generation,
    Job,
    JobArtifact,
    JobCheckpoint,
    JobSample,
    SampleRequest,
    SentCover,
    StepAdapter,
    Tenant,
)
from core.domain.states import TERMINAL, AdapterStatus, DatasetStatus


def list_job_references(session: Session, job_id: str) -> frozenset[str] | None:
    """The keys that a job's rows name: empty if there is no such job, None while it may still write files."""
    status = session.execute(select(Job.status).where(Job.id == job_id)).scalar_one_or_none()
    if status is not None and status not in TERMINAL:
        return None
    keys = set(session.execute(select(JobArtifact.key).where(JobArtifact.job_id == job_id)).scalars())
    keys |= set(session.execute(select(JobCheckpoint.key).where(JobCheckpoint.job_id == job_id)).scalars())
    for sample in session.execute(select(JobSample).where(JobSample.job_id == job_id)).scalars():
        keys |= _keys_of([sample.grid, *sample.images])
    for files in session.execute(select(StepAdapter.files).where(StepAdapter.job_id == job_id)).scalars():
        keys |= _keys_of(files.values())
    for images in session.execute(select(SampleRequest.images).where(SampleRequest.job_id == job_id)).scalars():
        keys |= _keys_of(images)
    return frozenset(keys)


def list_dataset_references(session: Session, dataset_id: str) -> frozenset[str] | None:
    """The keys of images and their thumbnails, of a ready dataset and of the revisions that share them, even after it
    was deleted: uploads are not needed any more. For an open one, those of the uploads that were not announced again.
    As ``list_job_references``.

    One statement reads all of them: a revision is made while the dataset that it takes a key from is locked, so that
    a key which no row names in one snapshot is never named again.
    """
    shared = Dataset.image_folders.contains([dataset_id])
    rows = session.execute(
        select(Dataset.id, Dataset.status, Dataset.manifest).where(or_(Dataset.id == dataset_id, shared))
    ).all()
    status = next((row.status for row in rows if row.id == dataset_id), None)
    if status == DatasetStatus.VALIDATING:
        return None
    if status == DatasetStatus.OPEN:
        announced = select(DatasetFile.key).where(DatasetFile.dataset_id == dataset_id)
        return frozenset(session.execute(announced).scalars())
    images = [image for row in rows for image in (row.manifest or {}).get("images", [])]
    return frozenset(_keys_of(images) | _keys_of(image["thumbnail"] for image in images if image.get("thumbnail")))


def list_adapter_references(session: Session, adapter_id: str) -> frozenset[str] | None:
    """The keys of an import, and of a cover: an upload is not needed after the check. As ``list_job_references``."""
    query = select(Adapter.status, Adapter.files, Adapter.cover).where(Adapter.id == adapter_id)
    row = session.execute(query).one_or_none()
    if row is None:
        return frozenset()
    sent = select(SentCover.upload).where(SentCover.adapter_id == adapter_id, SentCover.status == SentCover.CHECKING)
    files = [*row.files.values(), *([row.cover] if row.cover else []), *session.execute(sent).scalars()]
    return None if row.status == AdapterStatus.CHECKING else frozenset(_keys_of(files))


def list_generation_references(session: Session, generation_id: str) -> frozenset[str] | None:
    """The keys of its images. As ``list_job_references``."""
    found = select(Generation.status, Generation.images).where(Generation.id == generation_id)
    row = session.execute(found).one_or_none()
    if row is None:
        return frozenset()
    return None if row[0] == Generation.CHECKING else frozenset(_keys_of(row[1].values()))


def identify_database(session: Session) -> str:
    """Distinguishes this database from any other, even after a dump and restore: the time its schema was created."""
    made_at: datetime = session.get_one(Tenant, DEFAULT_TENANT).created_at
    return made_at.isoformat()


def _keys_of(files: Iterable[dict[str, str]]) -> set[str]:
    return {file["key"] for file in files}
