"""The places of a tenant's queued jobs. Jobs of other tenants are not visible here, and may run in between."""

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import Float, func, select
from sqlalchemy.orm import Session

from core.db.session import read_clock
from core.db.tables import Job, Worker
from core.db.workers import FRESH_SECONDS
from core.domain.states import HELD, JobStatus
from core.domain.waiting import Place, estimate_left, find_starts

_ESTIMATED = Job.estimate["seconds"].astext.cast(Float)
_ETA = Job.progress["eta_seconds"].astext.cast(Float)


def find_places(session: Session, tenant_id: str) -> Mapping[str, Place]:
    """By the jobs' ids, in the order in which workers take them (core.db.job_claims): the due ones by priority, then by
    age; after them the deferred ones, by when they are due."""
    wait = func.greatest(Job.run_after - func.statement_timestamp(), timedelta(0))
    queued = select(Job.id, _ESTIMATED, wait).where(Job.tenant_id == tenant_id, Job.status == JobStatus.QUEUED)
    rows = session.execute(queued.order_by(wait, Job.priority.desc(), Job.created_at)).all()
    if not rows:
        return {}
    starts = find_starts(_list_left(session, tenant_id), [row[1] for row in rows], _count_slots(session))
    return {
        row[0]: Place(number, None if start is None else max(start, row[2].total_seconds()))
        for number, (row, start) in enumerate(zip(rows, starts, strict=True), start=1)
    }


def _list_left(session: Session, tenant_id: str) -> list[float | None]:
    held = select(_ESTIMATED, Job.started_at, _ETA).where(Job.tenant_id == tenant_id, Job.status.in_(HELD))
    now = read_clock(session)
    return [
        estimate_left(estimated, (now - started).total_seconds(), eta)
        for estimated, started, eta in session.execute(held)
    ]


def _count_slots(session: Session) -> int:
    """Training workers with a recent heartbeat."""
    fresh = Worker.seen_at > func.clock_timestamp() - timedelta(seconds=FRESH_SECONDS)
    return int(session.execute(select(func.count()).select_from(Worker).where(fresh)).scalar_one())
