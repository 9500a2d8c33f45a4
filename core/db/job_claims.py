"""The workers' side of jobs: claim, heartbeat, and fenced writes.

The fence is the attempt number: every write names ``id``, ``attempt`` and the states it is allowed in. If no row is
touched, the lease was lost: ``LostLease`` is raised, and the worker must stop and write nothing.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, literal_column, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db import slots, turns
from core.db.adapters import insert_of_job
from core.db.events import append_event
from core.db.leases import LostLease, lock_expired
from core.db.session import from_now, read_clock
from core.db.step_adapters import keep_files
from core.db.tables import Job, JobArtifact, JobCheckpoint, JobEvent, JobMetric, JobSample
from core.domain.artifacts import Artifact
from core.domain.errors import describe_problem
from core.domain.events import EventType
from core.domain.outcome import list_verdicts, summarize
from core.domain.states import HELD, TERMINAL, JobStatus, Phase, TerminationReason, advice_of, title_of

MAX_FAILURES = 5
MAX_DEATHS_WITHOUT_PROGRESS = 3
BACKOFF_SECONDS = 5.0
MIN_WAIT_SECONDS, MAX_WAIT_SECONDS = 5.0, 300.0


@dataclass(frozen=True)
class Claim:
    """A worker's claim: the job under one attempt."""

    job_id: str
    attempt: int


def claim_next(
    session: Session,
    *,
    slot: str,
    lease_seconds: float,
    running_limit: int | None = None,
    warm: Sequence[str] = (),
) -> Job | None:
    """Takes the next job for this device slot, or None.

    Among tenants with due jobs, the one with the fewest running jobs, then the one served longest ago. Jobs on the
    models in ``warm`` go before others of the same priority, and their tenants before others with as many running jobs,
    until those others have waited for ``turns.WARM_PATIENCE``. ``running_limit`` applies to tenants without a quota of
    their own.
    """
    if not slots.is_free(session, slot):
        return None
    turns.wait_to_choose(session)
    for tenant_id in turns.list_tenants(session, running_limit, warm):
        if (job := claim_of(session, tenant_id, slot=slot, lease_seconds=lease_seconds, warm=warm)) is not None:
            return job
    return None


def claim_of(
    session: Session, tenant_id: str, *, slot: str, lease_seconds: float, warm: Sequence[str] = ()
) -> Job | None:
    """Takes a tenant's first due job whose row is not locked."""
    goes_first = Job.model_id.in_(warm) | (Job.created_at < func.clock_timestamp() - turns.WARM_PATIENCE)
    order = (Job.priority.desc(), *((goes_first.desc(),) if warm else ()), Job.created_at)
    due = (
        select(Job.id)
        .where(
            Job.tenant_id == tenant_id,
            Job.status == literal_column(f"'{JobStatus.QUEUED}'"),  # as the index has it
            Job.run_after <= func.clock_timestamp(),
        )
        .order_by(*order)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    claim = (
        update(Job)
        .where(Job.id == due)
        .values(
            status=JobStatus.RUNNING,
            phase=Phase.LOADING,
            attempt=Job.attempt + 1,
            lease_until=from_now(lease_seconds),
            started_at=func.coalesce(Job.started_at, func.clock_timestamp()),
        )
        .returning(Job)
    )
    job = session.execute(claim).scalar_one_or_none()
    if job is not None:
        slots.take(session, slot, job.id, job.attempt)
        turns.note(session, tenant_id)
        append_event(session, job.id, EventType.RUNNING, job.attempt, {"attempt": job.attempt, "slot": slot})
    return job


def renew_lease(
    session: Session, claim: Claim, *, lease_seconds: float, progress: Mapping[str, Any] | None = None
) -> JobStatus:
    """Renews the lease, writes the progress, and returns the status that the job's clients have requested."""
    values: dict[str, Any] = {"lease_until": from_now(lease_seconds)}
    if progress is not None:
        values["progress"] = dict(progress)
    row = session.execute(_fenced(claim, HELD).values(**values).returning(Job.status)).first()
    if row is None:
        raise LostLease(claim)
    return JobStatus(row[0])


def renew_leases(session: Session, held: Sequence[Claim], *, lease_seconds: float) -> dict[Claim, JobStatus]:
    """Renews every lease of a worker in one statement. A claim that is not in the answer is lost."""
    pairs = [(claim.job_id, claim.attempt) for claim in held]
    renewal = update(Job).where(tuple_(Job.id, Job.attempt).in_(pairs), Job.status.in_(HELD))
    renewal = renewal.values(lease_until=from_now(lease_seconds))
    rows = session.execute(renewal.returning(Job.id, Job.attempt, Job.status))
    return {Claim(job_id, attempt): JobStatus(status) for job_id, attempt, status in rows}


def enter_phase(session: Session, claim: Claim, phase: Phase) -> None:
    _touch(session, claim, HELD, phase=phase)
    append_event(session, claim.job_id, EventType.PHASE, claim.attempt, {"phase": phase})


def write_runtime(session: Session, claim: Claim, runtime: Mapping[str, Any]) -> None:
    """The first attempt's findings about its device; later attempts keep to them."""
    _touch(session, claim, HELD, runtime=dict(runtime))


def add_notice(session: Session, claim: Claim, message: str) -> None:
    hold(session, claim)
    append_event(session, claim.job_id, EventType.NOTICE, claim.attempt, {"message": message})


def add_metrics(session: Session, claim: Claim, rows: Sequence[Mapping[str, Any]]) -> None:
    """Each row has step, loss, learning_rate and seconds_per_step; a repeated step is overwritten."""
    hold(session, claim)
    latest = {row["step"]: {"job_id": claim.job_id, "attempt": claim.attempt, **row} for row in rows}
    if latest:
        statement = insert(JobMetric).values(list(latest.values()))
        written = {name: statement.excluded[name] for name in next(iter(latest.values()))}
        session.execute(statement.on_conflict_do_update(index_elements=["job_id", "step"], set_=written))


def add_validation(session: Session, claim: Claim, *, step: int, loss: float) -> None:
    """The held-out loss of a step whose metrics are written."""
    hold(session, claim)
    row = update(JobMetric).where(JobMetric.job_id == claim.job_id, JobMetric.step == step)
    session.execute(row.values(validation_loss=loss))


def add_checkpoint(
    session: Session, claim: Claim, *, step: int, loss: float, artifact: Artifact, keep: int
) -> list[str]:
    """Makes a checkpoint visible, resets the count of failures, and returns the storage keys that are now unneeded."""
    _touch(session, claim, HELD, failures=0)
    values = {
        "job_id": claim.job_id,
        "step": step,
        "attempt": claim.attempt,
        "loss": loss,
        **artifact.model_dump(),
    }
    statement = insert(JobCheckpoint).values(**values)
    session.execute(statement.on_conflict_do_update(index_elements=["job_id", "step"], set_=values))
    newest = select(JobCheckpoint.step).where(JobCheckpoint.job_id == claim.job_id)
    newest = newest.order_by(JobCheckpoint.step.desc()).limit(keep)
    old = delete(JobCheckpoint).where(JobCheckpoint.job_id == claim.job_id, JobCheckpoint.step.not_in(newest))
    dropped = list(session.execute(old.returning(JobCheckpoint.key)).scalars())
    append_event(session, claim.job_id, EventType.CHECKPOINT, claim.attempt, {"step": step, "sha256": artifact.sha256})
    return dropped


def add_sample(
    session: Session, claim: Claim, *, step: int, images: Sequence[Mapping[str, Any]], grid: Artifact
) -> None:
    hold(session, claim)
    values = {
        "job_id": claim.job_id,
        "step": step,
        "attempt": claim.attempt,
        "images": [dict(image) for image in images],
        "grid": grid.model_dump(),
    }
    statement = insert(JobSample).values(**values)
    session.execute(statement.on_conflict_do_update(index_elements=["job_id", "step"], set_=values))
    append_event(session, claim.job_id, EventType.SAMPLES, claim.attempt, {"step": step})


def succeed(
    session: Session, claim: Claim, *, result: Mapping[str, Any], artifacts: Mapping[str, Artifact]
) -> JobStatus:
    """The commit: artifacts, adapter, state and event in one transaction. Canceled, if that was requested before."""
    job = hold(session, claim)
    if job.status == JobStatus.CANCELING:
        return _release(session, job, reason="requested")
    result = {**result, "adapter_id": insert_of_job(session, job, result, artifacts)}
    _end(session, job, JobStatus.SUCCEEDED, result=result)
    keep_files(session, job, step=result.get("metrics", {}).get("step"), artifacts=artifacts)
    for kind, artifact in artifacts.items():
        session.merge(JobArtifact(job_id=claim.job_id, kind=kind, **artifact.model_dump()))
    data = {**summarize(claim.job_id, result), "verdicts": list_verdicts(result)}
    append_event(session, claim.job_id, EventType.SUCCEEDED, claim.attempt, data)
    return JobStatus.SUCCEEDED


def fail(session: Session, claim: Claim, reason: TerminationReason, detail: str) -> JobStatus:
    """A failure that no further attempt can fix. Canceled, if that was requested before."""
    job = hold(session, claim)
    if job.status == JobStatus.CANCELING:
        return _release(session, job, reason="requested")
    _end(session, job, JobStatus.FAILED, error=_error_of(reason, detail))
    append_event(session, claim.job_id, EventType.FAILED, claim.attempt, {"reason": reason})
    return JobStatus.FAILED


def acknowledge_stop(session: Session, claim: Claim) -> JobStatus:
    """The worker stopped as requested: canceling -> canceled, pausing -> paused, running (a drain) -> queued."""
    job = hold(session, claim)
    return _release(session, job, reason="the worker was shut down" if job.status == JobStatus.RUNNING else "requested")


def retry(session: Session, claim: Claim, detail: str) -> JobStatus:
    """Retries up to MAX_FAILURES, and at most MAX_DEATHS_WITHOUT_PROGRESS times without a checkpoint."""
    job = hold(session, claim)
    return _retry(session, job, detail)


def defer(session: Session, claim: Claim, reason: str) -> JobStatus:
    """Defers the job without counting a failure, because another worker may have what this one lacks, or this one may
    have it later. Delay: a tenth of the job's age, MIN_WAIT_SECONDS to MAX_WAIT_SECONDS."""
    job = hold(session, claim)
    if job.status != JobStatus.RUNNING:
        return _release(session, job, reason=reason)
    age_seconds = (read_clock(session) - job.created_at).total_seconds()
    wait_seconds = min(max(age_seconds / 10, MIN_WAIT_SECONDS), MAX_WAIT_SECONDS)
    _let_go(session, job, JobStatus.QUEUED, delay_seconds=wait_seconds)
    append_event(session, job.id, EventType.QUEUED, job.attempt, {"reason": reason})
    return JobStatus.QUEUED


def retry_with_runtime(session: Session, claim: Claim, runtime: Mapping[str, Any], message: str) -> JobStatus:
    """The device ran out of memory: retries with a runtime that needs less. No failure is counted."""
    job = hold(session, claim)
    if job.status == JobStatus.RUNNING:
        session.execute(update(Job).where(Job.id == job.id).values(runtime=dict(runtime)))
        append_event(session, job.id, EventType.NOTICE, job.attempt, {"message": message})
    return _release(session, job, reason="out of memory" if job.status == JobStatus.RUNNING else "requested")


def expire_leases(session: Session) -> list[Job]:
    """Takes back every job whose worker lost its lease. For the steward."""
    jobs = lock_expired(session, Job, *HELD)
    for job in jobs:
        if job.status == JobStatus.RUNNING:
            _retry(session, job, "the worker lost contact")
        else:
            _release(session, job, reason="the worker lost contact")
    return jobs


def newest_checkpoints(session: Session, job_id: str) -> Sequence[JobCheckpoint]:
    """Newest first: a resumed attempt tries them in this order."""
    query = select(JobCheckpoint).where(JobCheckpoint.job_id == job_id).order_by(JobCheckpoint.step.desc())
    return session.execute(query).scalars().all()


def count_seconds_worked(session: Session, job_id: str) -> float:
    """The working time of earlier attempts, without the time in which the job was paused or queued."""
    bounds = (EventType.RUNNING, EventType.PAUSED, EventType.QUEUED)
    query = select(JobEvent.type, JobEvent.created_at).where(JobEvent.job_id == job_id, JobEvent.type.in_(bounds))
    seconds, since = 0.0, None
    for kind, moment in session.execute(query.order_by(JobEvent.seq)):
        if since is not None:
            seconds += (moment - since).total_seconds()
        since = moment if kind == EventType.RUNNING else None
    return seconds


def list_unfinished(session: Session, job_ids: Sequence[str]) -> set[str]:
    """The given jobs that run, or may run again."""
    query = select(Job.id).where(Job.id.in_(job_ids), Job.status.not_in(TERMINAL))
    return set(session.execute(query).scalars())


# --- below: the parts ----------------------------------------------------------------------------------


def _fenced(claim: Claim, states: frozenset[JobStatus]) -> Any:
    return update(Job).where(Job.id == claim.job_id, Job.attempt == claim.attempt, Job.status.in_(states))


def _touch(session: Session, claim: Claim, states: frozenset[JobStatus], **values: Any) -> None:
    if session.execute(_fenced(claim, states).values(**values).returning(Job.id)).first() is None:
        raise LostLease(claim)


def hold(session: Session, claim: Claim) -> Job:
    """Locks the job's row for this transaction, if the claim still stands."""
    query = select(Job).where(Job.id == claim.job_id, Job.attempt == claim.attempt, Job.status.in_(HELD))
    query = query.with_for_update().execution_options(populate_existing=True)
    job = session.execute(query).scalar_one_or_none()
    if job is None:
        raise LostLease(claim)
    return job


def _end(session: Session, job: Job, status: JobStatus, **values: Any) -> None:
    left = {"phase": None, "lease_until": None, "finished_at": func.clock_timestamp()}
    slots.release(session, job.id)
    session.execute(update(Job).where(Job.id == job.id).values(status=status, **left, **values))


def _let_go(session: Session, job: Job, status: JobStatus, *, delay_seconds: float = 0.0) -> None:
    values: dict[str, Any] = {"status": status, "phase": None, "lease_until": None}
    slots.release(session, job.id)
    if status is JobStatus.QUEUED:
        values["run_after"] = from_now(delay_seconds)
    else:
        values["finished_at"] = func.clock_timestamp() if status is JobStatus.CANCELED else None
    session.execute(update(Job).where(Job.id == job.id).values(**values))


def _release(session: Session, job: Job, *, reason: str) -> JobStatus:
    following, event = {
        JobStatus.CANCELING: (JobStatus.CANCELED, EventType.CANCELED),
        JobStatus.PAUSING: (JobStatus.PAUSED, EventType.PAUSED),
        JobStatus.RUNNING: (JobStatus.QUEUED, EventType.QUEUED),
    }[JobStatus(job.status)]
    _let_go(session, job, following)
    append_event(session, job.id, event, job.attempt, {"reason": reason})
    return following


def _retry(session: Session, job: Job, detail: str) -> JobStatus:
    if job.status != JobStatus.RUNNING:
        return _release(session, job, reason=detail)
    failures = job.failures + 1
    if failures >= MAX_FAILURES or (failures >= MAX_DEATHS_WITHOUT_PROGRESS and not _progressed(session, job)):
        reason = TerminationReason.INFRASTRUCTURE if _progressed(session, job) else TerminationReason.POISON
        fail(session, Claim(job.id, job.attempt), reason, detail)
        return JobStatus.FAILED
    session.execute(update(Job).where(Job.id == job.id).values(failures=failures))
    delay = BACKOFF_SECONDS * (2 ** (failures - 1) - 1) * random.uniform(0.5, 1.0)
    _let_go(session, job, JobStatus.QUEUED, delay_seconds=delay)
    append_event(session, job.id, EventType.QUEUED, job.attempt, {"reason": detail, "failures": failures})
    return JobStatus.QUEUED


def _progressed(session: Session, job: Job) -> bool:
    return session.execute(select(JobCheckpoint.step).where(JobCheckpoint.job_id == job.id)).first() is not None


def _error_of(reason: TerminationReason, detail: str) -> dict[str, str]:
    advice = advice_of(reason)
    return describe_problem(reason, title_of(reason), f"{detail.rstrip('. ')}. {advice}" if detail else advice)
