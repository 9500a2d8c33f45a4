"""The clients' side of jobs: create, read, and request a change of state. Workers' writes are in job_claims.py."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Float, Select, delete, func, insert, or_, select, text
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from core.db import audit, usage
from core.db.adapters import find_of_job, refuse_if_needed
from core.db.events import append_event
from core.db.own_rows import get_own
from core.db.paging import read_page
from core.db.session import read_clock
from core.db.tables import (
    Job,
    JobArtifact,
    JobCheckpoint,
    JobDataset,
    JobMetric,
    JobSample,
)
from core.db.tables.jobs import MEASURED
from core.db.webhooks import insert_webhook
from core.domain.audit import Action
from core.domain.concepts import ConceptSpec
from core.domain.errors import NotFound, WrongState
from core.domain.estimate import Estimate, Measured
from core.domain.events import EventType
from core.domain.ids import new_id
from core.domain.plan import TrainPlan
from core.domain.spec import TrainingSpec
from core.domain.states import TERMINAL, JobStatus, may_follow

MEASURED_JOBS = 20


def insert_job(
    session: Session,
    *,
    tenant_id: str,
    model_id: str,
    dataset_id: str,
    spec: TrainingSpec,
    plan: TrainPlan,
    estimate: Estimate,
    concepts: Sequence[ConceptSpec] = (),
) -> Job:
    values = {
        "id": new_id("job"),
        "tenant_id": tenant_id,
        "model_id": model_id,
        "dataset_id": dataset_id,
        "status": JobStatus.QUEUED,
        "spec": _dump_spec(spec, concepts),
        "plan": plan.model_dump(mode="json"),
        "estimate": estimate.model_dump(mode="json"),
        "priority": spec.priority,
    }
    job: Job
    job, outline = session.execute(insert(Job).values(values).returning(Job, Job.outline)).one()
    set_committed_value(job, "outline", outline)
    session.add_all(JobDataset(job_id=job.id, dataset_id=concept.id) for concept in concepts)
    session.flush()
    if spec.webhook is not None:
        insert_webhook(session, job.id, spec.webhook)
    append_event(session, job.id, EventType.QUEUED, 0, {"reason": "accepted"})
    audit.record(session, Action.JOB_CREATED, job.id)
    return job


def _dump_spec(spec: TrainingSpec, concepts: Sequence[ConceptSpec]) -> dict[str, Any]:
    """As posted, without what is secret."""
    dumped = spec.model_dump(mode="json", exclude_unset=True, exclude={"webhook": {"secret"}})
    more = [concept.model_dump(mode="json", exclude_unset=True) for concept in concepts]
    return {**dumped, "datasets": more} if more else dumped


def get_job(session: Session, tenant_id: str, job_id: str) -> Job:
    """Raises NotFound, also for another tenant's."""
    return get_own(session, Job, "job", tenant_id, job_id)


def lock_job(session: Session, tenant_id: str, job_id: str) -> Job:
    """Until the transaction ends. Raises NotFound."""
    return get_own(session, Job, "job", tenant_id, job_id, lock=True)


def list_jobs(
    session: Session,
    tenant_id: str,
    *,
    status: JobStatus | None = None,
    model: str | None = None,
    words: str | None = None,
    after: str | None = None,
    limit: int = 20,
) -> tuple[list[Job], bool]:
    """Newest first, by id; and whether there are more. ``words`` are searched in name, trigger and id, whatever their
    case."""
    query = select(Job).where(Job.tenant_id == tenant_id)
    if status is not None:
        query = query.where(Job.status == status)
    if model is not None:
        query = query.where(Job.model_id == model)
    if words is not None:
        texts = (Job.spec["name"].astext, Job.spec["trigger"].astext, Job.id)
        query = query.where(or_(*(text.icontains(words, autoescape=True) for text in texts)))
    return read_page(session, query, Job.id, after, limit)


def cancel_job(session: Session, tenant_id: str, job_id: str) -> Job:
    """Queued and paused jobs end at once; for a held one the worker ends it. Repeating the request is not an error."""

    def choose(status: JobStatus) -> tuple[JobStatus, EventType]:
        if status in {JobStatus.QUEUED, JobStatus.PAUSED, JobStatus.CANCELED}:
            return JobStatus.CANCELED, EventType.CANCELED
        return JobStatus.CANCELING, EventType.CANCELING

    return _move(session, tenant_id, job_id, "canceled", Action.JOB_CANCELED, choose)


def pause_job(session: Session, tenant_id: str, job_id: str) -> Job:
    def choose(status: JobStatus) -> tuple[JobStatus, EventType]:
        if status in {JobStatus.QUEUED, JobStatus.PAUSED}:
            return JobStatus.PAUSED, EventType.PAUSED
        return JobStatus.PAUSING, EventType.PAUSING

    return _move(session, tenant_id, job_id, "paused", Action.JOB_PAUSED, choose)


def resume_job(session: Session, tenant_id: str, job_id: str) -> Job:
    job = lock_job(session, tenant_id, job_id)
    if job.status != JobStatus.PAUSED:
        raise WrongState(f"Job {job_id} is {job.status}: only a paused job can be resumed.")
    job.status, job.run_after = JobStatus.QUEUED, read_clock(session)
    append_event(session, job_id, EventType.QUEUED, job.attempt, {"reason": "resumed"})
    audit.record(session, Action.JOB_RESUMED, job_id)
    return job


def _move(
    session: Session,
    tenant_id: str,
    job_id: str,
    participle: str,
    action: Action,
    choose: Callable[[JobStatus], tuple[JobStatus, EventType]],
) -> Job:
    job = lock_job(session, tenant_id, job_id)
    current = JobStatus(job.status)
    following, event = choose(current)
    if current is following:
        return job
    if not may_follow(current, following):
        how = f"has ended ({current})" if current in TERMINAL else f"is {current}"
        raise WrongState(f"Job {job_id} {how} and cannot be {participle}.")
    job.status = following
    if following in TERMINAL:
        job.finished_at = read_clock(session)
    if following is JobStatus.CANCELED and job.started_at is None:
        usage.give_back_steps(session, job)
    append_event(session, job_id, event, job.attempt, {"reason": "requested"})
    audit.record(session, action, job_id)
    return job


def delete_job(session: Session, tenant_id: str, job_id: str) -> None:
    """Rows only, including its adapter's; the caller then deletes the job's prefix in storage."""
    job = lock_job(session, tenant_id, job_id)
    if JobStatus(job.status) not in TERMINAL:
        raise WrongState(f"Job {job_id} is {job.status}: cancel it before you delete it.")
    if (adapter := find_of_job(session, job_id)) is not None:
        refuse_if_needed(session, adapter)
    session.execute(delete(Job).where(Job.id == job_id, Job.tenant_id == tenant_id))
    audit.record(session, Action.JOB_DELETED, job_id)


def list_metrics(session: Session, job_id: str) -> Sequence[JobMetric]:
    return session.execute(select(JobMetric).where(JobMetric.job_id == job_id).order_by(JobMetric.step)).scalars().all()


def list_checkpoints(session: Session, job_id: str) -> Sequence[JobCheckpoint]:
    query = select(JobCheckpoint).where(JobCheckpoint.job_id == job_id).order_by(JobCheckpoint.step)
    return session.execute(query).scalars().all()


def list_samples(session: Session, job_id: str) -> Sequence[JobSample]:
    return session.execute(select(JobSample).where(JobSample.job_id == job_id).order_by(JobSample.step)).scalars().all()


def get_sample(session: Session, job_id: str, step: int) -> JobSample:
    sample = session.get(JobSample, (job_id, step))
    if sample is None:
        raise NotFound(f"Job {job_id} has no samples at step {step}; GET /jobs/{job_id}/samples lists them.")
    return sample


def get_artifact(session: Session, job_id: str, kind: str) -> JobArtifact | None:
    return session.get(JobArtifact, (job_id, kind))


def measure_model(session: Session, tenant_id: str, model_id: str) -> Measured | None:
    """Medians over the tenant's newest undisturbed jobs on this base and on the device of the newest of them, at the
    largest resolution among them; None if there are none. For an even number the lower one: a busy machine makes a
    job slower, and nothing makes it faster."""
    newest = _newest_measured(tenant_id, model_id).subquery()
    latest_device = select(newest.c.device).order_by(newest.c.id.desc()).limit(1).scalar_subquery()

    def read(name: str) -> ColumnElement[float]:
        number: ColumnElement[float] = newest.c.measured[name].astext.cast(Float)
        return number

    def median(value: ColumnElement[float]) -> ColumnElement[float]:
        return func.percentile_disc(0.5).within_group(value)

    pixels = newest.c.resolution * newest.c.resolution
    row = session.execute(
        select(
            func.count(),
            median(read("seconds_per_sample") / pixels),
            median(read("seconds_per_image") / pixels),
            median(read("start_seconds")),
            func.max(read("peak_memory_bytes")),
            func.max(newest.c.resolution),
            func.max(newest.c.device),
        ).where(newest.c.device.is_not_distinct_from(latest_device))
    ).one()
    num_jobs, sample, image, start, memory, resolution, device = row
    if num_jobs == 0:
        return None
    return Measured(
        num_jobs=num_jobs,
        seconds_per_sample=sample * resolution**2,
        seconds_per_image=image * resolution**2,
        start_seconds=start,
        peak_memory_bytes=int(memory),
        resolution=int(resolution),
        device=device,
    )


def _newest_measured(tenant_id: str, model_id: str) -> Select[Any]:
    return (
        select(
            Job.id,
            Job.result["measured"].label("measured"),
            Job.plan["resolution"].astext.cast(Float).label("resolution"),
            Job.runtime["device_name"].astext.label("device"),
        )
        .where(
            Job.tenant_id == tenant_id,
            Job.model_id == model_id,
            text(MEASURED),  # as the index has it: a query's own parameters would not match
        )
        .order_by(Job.id.desc())
        .limit(MEASURED_JOBS)
    )
