"""What is going on right now, read from the rows: which jobs are being worked on, and in which phase.

``evaluation`` is when the scores are measured; the rest is called as the jobs call it.
(The held-out loss is measured now and then within training.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db import slots
from core.db.tables import Dataset, Generation, Job, JobEvent
from core.domain.states import HELD, TERMINAL, JobStatus

JOB_PHASES = ("loading", "caching", "training", "sampling", "evaluation", "exporting")
SERVICE_PHASES = ("upload", "post", "validating")
DRAWING = "drawing"
"""A job trains while a generation is drawn between its steps, or between those of the other worker's job."""


@dataclass(frozen=True)
class Work:
    """A job in a worker's hands. ``slot``: the number of the device slot."""

    job_id: str
    attempt: int
    slot: int
    status: str
    phase: str
    failures: int


@dataclass(frozen=True)
class Scene:
    works: tuple[Work, ...]
    num_waiting: int
    num_unfinished: int
    validating: str | None
    num_undrawn: int
    num_drawing: int


def look(session: Session) -> Scene:
    jobs = session.execute(select(Job).where(Job.status.in_(HELD))).scalars().all()
    works = tuple(_describe(session, job) for job in jobs)
    counts = dict(session.execute(select(Job.status, func.count()).group_by(Job.status)).all())
    validating = select(Dataset.id).where(Dataset.status == "validating", Dataset.lease_until.is_not(None)).limit(1)
    undrawn, held = Generation.status == Generation.CHECKING, Generation.lease_until.is_not(None)
    return Scene(
        works,
        counts.get(JobStatus.QUEUED, 0),
        sum(number for status, number in counts.items() if JobStatus(status) not in TERMINAL),
        session.execute(validating).scalar_one_or_none(),
        session.execute(select(func.count()).where(undrawn)).scalar_one(),
        session.execute(select(func.count()).where(undrawn, held)).scalar_one(),
    )


def _describe(session: Session, job: Job) -> Work:
    query = select(JobEvent).where(JobEvent.job_id == job.id, JobEvent.attempt == job.attempt).order_by(JobEvent.seq)
    events = session.execute(query).scalars().all()
    phase = phase_of([(event.type, event.data) for event in events])
    held = slots.list_held(session, job.id)
    slot = int(held[0].slot.rsplit("/", 1)[-1]) if held else 0
    return Work(job.id, job.attempt, slot, job.status, phase, job.failures)


def phase_of(events: Sequence[tuple[str, Any]]) -> str:
    """Of one attempt's events so far; ``ended`` when the last of them gave the job away."""
    phase = "loading"
    for kind, data in events:
        if kind == "job.phase":
            phase = "evaluation" if data["phase"] == "scoring" else data["phase"]
        elif kind in {"job.queued", "job.paused", "job.canceled", "job.succeeded", "job.failed"}:
            phase = "ended"
    return phase


def phase_at(session: Session, job_id: str, attempt: int, at: float) -> str:
    """Where the attempt was by the events that were written by then."""
    query = select(JobEvent).where(
        JobEvent.job_id == job_id, JobEvent.attempt == attempt, JobEvent.created_at <= datetime.fromtimestamp(at, UTC)
    )
    events = session.execute(query.order_by(JobEvent.seq)).scalars().all()
    return phase_of([(event.type, event.data) for event in events])
