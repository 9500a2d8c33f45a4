"""A job's outputs so far: events and metrics, in order."""

import math
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db.tables import JobCheckpoint, JobEvent, JobMetric, SampleRequest
from core.domain.errors import InvalidRequest, NotFound


def find_seq(session: Session, job_id: str, event_id: str) -> int:
    """The place of an event in its job's history. Raises InvalidRequest for an id of another job."""
    query = select(JobEvent.seq).where(JobEvent.job_id == job_id, JobEvent.id == event_id)
    seq = session.execute(query).scalar_one_or_none()
    if seq is None:
        raise InvalidRequest(f"Job {job_id} has no event {event_id}: continue after the id of an event that it has.")
    return seq


def page_metrics(session: Session, job_id: str, *, after_step: int, limit: int) -> tuple[list[JobMetric], bool]:
    """In the order of the steps; and whether there are more."""
    query = select(JobMetric).where(JobMetric.job_id == job_id, JobMetric.step > after_step)
    rows = list(session.execute(query.order_by(JobMetric.step).limit(limit + 1)).scalars())
    return rows[:limit], len(rows) > limit


def thin_metrics(session: Session, job_id: str, *, after_step: int, max_points: int) -> list[JobMetric]:
    """About ``max_points`` of those after a step, in the order of the steps: every so many, the last, and all that have
    a held-out loss."""
    after = (JobMetric.job_id == job_id, JobMetric.step > after_step)
    first = session.scalar(select(func.min(JobMetric.step)).where(*after))
    last = session.scalar(select(func.max(JobMetric.step)).where(*after))
    if first is None or last is None:
        return []
    every = max(1, math.ceil((last - first + 1) / max_points))
    is_shown = (
        ((JobMetric.step - first) % every == 0) | (JobMetric.step == last) | JobMetric.validation_loss.is_not(None)
    )
    return list(session.execute(select(JobMetric).where(*after, is_shown).order_by(JobMetric.step)).scalars())


def list_losses(session: Session, job_id: str, *, max_points: int) -> list[tuple[int, float]]:
    """(step, smoothed loss), in the order of the steps: every so many, and the last."""
    last = select(func.max(JobMetric.step)).where(JobMetric.job_id == job_id).scalar_subquery()
    every = func.greatest(func.div(last, max_points), 1)
    query = select(JobMetric.step, JobMetric.loss).where(JobMetric.job_id == job_id)
    shown = query.where((JobMetric.step % every == 0) | (JobMetric.step == last)).order_by(JobMetric.step)
    return [(step, loss) for step, loss in session.execute(shown)]


def list_validations(session: Session, job_id: str) -> list[tuple[int, float]]:
    """(step, held-out loss), in the order of the steps."""
    query = select(JobMetric.step, JobMetric.validation_loss).where(JobMetric.job_id == job_id)
    rows = session.execute(query.where(JobMetric.validation_loss.is_not(None)).order_by(JobMetric.step))
    return [(step, loss) for step, loss in rows if loss is not None]


def get_checkpoint(session: Session, job_id: str, step: int) -> JobCheckpoint:
    """Raises NotFound; only the newest checkpoints of a job are kept."""
    checkpoint = session.get(JobCheckpoint, (job_id, step))
    if checkpoint is None:
        raise NotFound(f"Job {job_id} has no checkpoint at step {step}; GET /jobs/{job_id}/checkpoints lists them.")
    return checkpoint


def find_waiting_requests(session: Session, job_ids: Sequence[str]) -> Sequence[SampleRequest]:
    """The samples that clients have requested of these jobs, oldest first."""
    waiting = (SampleRequest.job_id.in_(job_ids), SampleRequest.status == "waiting")
    return session.execute(select(SampleRequest).where(*waiting).order_by(SampleRequest.id)).scalars().all()
