"""The active workers, and whether the database is usable."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db.row_security import act_for
from core.db.tables import DEFAULT_TENANT, Job, Tenant, Worker

FRESH_SECONDS = 60
RECENT_DAYS = 1


@dataclass(frozen=True)
class SeenWorker:
    """A worker as one tenant sees it: it does not name another tenant's job."""

    id: str
    device: str
    device_name: str
    memory_bytes: int | None
    job_id: str | None
    warm_models: Sequence[str]
    seen_at: datetime


def record_worker(
    session: Session,
    *,
    worker_id: str,
    device: str,
    device_name: str,
    memory_bytes: int | None,
    job_id: str | None,
    warm_models: Sequence[str],
) -> None:
    """``memory_bytes``: the device's, once one of this worker's trainers has reported it."""
    values = {
        "id": worker_id,
        "device": device,
        "device_name": device_name,
        "memory_bytes": memory_bytes,
        "job_id": job_id,
        "warm_models": list(warm_models),
        "seen_at": func.clock_timestamp(),
    }
    session.execute(insert(Worker).values(**values).on_conflict_do_update(index_elements=["id"], set_=values))


def list_workers(session: Session, tenant_id: str) -> Sequence[SeenWorker]:
    """Workers with a heartbeat within FRESH_SECONDS."""
    fresh = Worker.seen_at > func.clock_timestamp() - timedelta(seconds=FRESH_SECONDS)
    own = (Job.id == Worker.job_id) & (Job.tenant_id == tenant_id)
    columns = (
        Worker.id,
        Worker.device,
        Worker.device_name,
        Worker.memory_bytes,
        Job.id,
        Worker.warm_models,
        Worker.seen_at,
    )
    rows = session.execute(select(*columns).outerjoin(Job, own).where(fresh).order_by(Worker.id))
    return [SeenWorker(*row) for row in rows]


def find_devices(session: Session) -> tuple[int | None, frozenset[str]]:
    """Of the training workers with a heartbeat within RECENT_DAYS: the bytes of the largest device, None if there is
    none or one has not said; and their kinds, `cpu`, `cuda` and the like."""
    recent = Worker.seen_at > func.clock_timestamp() - timedelta(days=RECENT_DAYS)
    rows = session.execute(select(Worker.memory_bytes, Worker.device).where(recent)).all()
    sizes = [size for size, _ in rows]
    largest = max((size for size in sizes if size is not None), default=None) if None not in sizes else None
    return largest, frozenset(device.partition(":")[0] for _, device in rows)


def is_migrated(session: Session) -> bool:
    """Whether the schema and its first rows exist. Raises sqlalchemy.exc.SQLAlchemyError if they do not."""
    act_for(session, DEFAULT_TENANT)
    return session.get(Tenant, DEFAULT_TENANT) is not None
