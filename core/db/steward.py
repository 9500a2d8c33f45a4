"""The steward's queries: who leads, and which jobs are due."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db.tables import Job
from core.domain.states import JobStatus

# Any number will do, as long as nothing else in this database uses it: "atelier" in ASCII.
LEADER_LOCK = 0x6174656C696572


def try_to_lead(session: Session) -> bool:
    """Takes the lock for as long as the session's connection lives; False if another steward has it."""
    return bool(session.execute(select(func.pg_try_advisory_lock(LEADER_LOCK))).scalar_one())


def count_due_jobs(session: Session) -> int:
    due = select(func.count()).where(Job.status == JobStatus.QUEUED, Job.run_after <= func.clock_timestamp())
    return session.execute(due).scalar_one()
