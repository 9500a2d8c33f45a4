"""The append-only history of jobs."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from core.db.tables import JobEvent
from core.db.webhooks import enqueue_delivery, select_subscription
from core.domain.events import EventType
from core.domain.ids import new_id


def append_event(session: Session, job_id: str, type_: EventType, attempt: int, data: Mapping[str, Any]) -> None:
    """Takes the job's next ``seq``, and queues the event for the job's receiver if it subscribes to such events.

    The caller holds the job's row locked, so no two events take the same; it has changed the row before.
    """
    session.flush()
    seq = select(func.coalesce(func.max(JobEvent.seq), 0) + 1).where(JobEvent.job_id == job_id).scalar_subquery()
    values = {"id": new_id("evt"), "job_id": job_id, "seq": seq, "type": type_, "attempt": attempt, "data": dict(data)}
    added = insert(JobEvent).values(values).returning(JobEvent, select_subscription(job_id))
    event, subscribed = session.execute(added).one()
    if event.type in (subscribed or ()):
        enqueue_delivery(session, event)


def list_events(session: Session, job_id: str, *, after_seq: int = 0, limit: int = 1000) -> Sequence[JobEvent]:
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > after_seq)
    return session.execute(query.order_by(JobEvent.seq).limit(limit)).scalars().all()


def list_reasons(session: Session, job_ids: Sequence[str]) -> Mapping[str, str]:
    """Why each of these queued jobs is in the queue, by id: the reason of its last ``job.queued``."""
    queued = (JobEvent.job_id.in_(job_ids), JobEvent.type == EventType.QUEUED)
    query = select(JobEvent.job_id, JobEvent.data["reason"].astext).where(*queued).order_by(JobEvent.seq)
    return {job_id: reason for job_id, reason in session.execute(query) if reason}
