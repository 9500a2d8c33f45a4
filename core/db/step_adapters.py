"""The adapters of a job's steps: listed, found, and kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db.adapters import ARTIFACT_PREFIX
from core.db.tables import Job, JobArtifact, JobMetric, JobSample, StepAdapter
from core.domain.artifacts import Artifact
from core.domain.errors import NotFound


@dataclass(frozen=True)
class KeptStep:
    """A step whose adapter is kept. ``is_promoted``: it is the job's own adapter. ``has_samples``: there are images."""

    adapter: StepAdapter
    loss: float | None
    validation_loss: float | None
    has_samples: bool
    is_promoted: bool


def list_steps(session: Session, job_id: str) -> list[KeptStep]:
    """In the order of the steps."""
    at_step = (JobMetric.job_id == StepAdapter.job_id) & (JobMetric.step == StepAdapter.step)
    sampled = select(JobSample.step).where(JobSample.job_id == StepAdapter.job_id, JobSample.step == StepAdapter.step)
    own = select(JobArtifact.kind).where(
        JobArtifact.job_id == StepAdapter.job_id, JobArtifact.key == StepAdapter.files["kohya"]["key"].astext
    )
    query = (
        select(StepAdapter, JobMetric.loss, JobMetric.validation_loss, sampled.exists(), own.exists())
        .outerjoin(JobMetric, at_step)
        .where(StepAdapter.job_id == job_id)
        .order_by(StepAdapter.step)
    )
    return [KeptStep(*row) for row in session.execute(query)]


def get_step(session: Session, job_id: str, step: int) -> StepAdapter:
    """Raises NotFound."""
    row = session.get(StepAdapter, (job_id, step), populate_existing=True)
    if row is None:
        raise NotFound(f"Job {job_id} has no adapter of step {step}; GET /jobs/{job_id}/steps lists those that it has.")
    return row


def keep(session: Session, job_id: str, *, step: int, attempt: int, files: Mapping[str, Artifact]) -> None:
    """In place of an earlier attempt's. The caller holds the job's row."""
    values = {
        "job_id": job_id,
        "step": step,
        "attempt": attempt,
        "files": {name: file.model_dump() for name, file in files.items()},
        "size": sum(file.size for file in files.values()),
    }
    statement = insert(StepAdapter).values(**values)
    session.execute(statement.on_conflict_do_update(index_elements=["job_id", "step"], set_=values))


def keep_files(session: Session, job: Job, *, step: int | None, artifacts: Mapping[str, Artifact]) -> None:
    """The job's own adapter, which is of ``step``, among its artifacts."""
    files = {
        kind.removeprefix(ARTIFACT_PREFIX): file for kind, file in artifacts.items() if kind.startswith(ARTIFACT_PREFIX)
    }
    if files and step is not None:
        keep(session, job.id, step=step, attempt=job.attempt, files=files)


def list_keys(rows: Sequence[StepAdapter]) -> list[str]:
    return [file["key"] for row in rows for file in row.files.values()]
