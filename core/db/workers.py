"""Who is on, and whether the database itself is."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db.tables import DEFAULT_TENANT, Tenant, Worker

FRESH_SECONDS = 60


def list_workers(session: Session) -> Sequence[Worker]:
    """Those that were heard of within FRESH_SECONDS."""
    fresh = Worker.seen_at > func.clock_timestamp() - timedelta(seconds=FRESH_SECONDS)
    return session.execute(select(Worker).where(fresh).order_by(Worker.id)).scalars().all()


def is_migrated(session: Session) -> bool:
    """Whether the schema and its first rows are there. Raises sqlalchemy.exc.SQLAlchemyError when they are not."""
    return session.get(Tenant, DEFAULT_TENANT) is not None
