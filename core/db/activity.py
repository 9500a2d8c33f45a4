"""The states of a tenant's newest things, in short rows that are cheap to read again and again."""

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db.models import list_statuses
from core.db.tables import Adapter, Dataset, Generation, Job, WebhookDelivery
from core.db.workers import list_workers

Resource = Literal["job", "dataset", "adapter", "generation", "model", "worker", "delivery"]

MAX_OF_EACH = 200
"""Of each of NUMEROUS, the newest so many; of the others, all."""
NUMEROUS: tuple[Resource, ...] = ("job", "dataset", "adapter", "generation", "delivery")


@dataclass(frozen=True)
class State:
    """``progress``: a job's, as workers write it; of a generation the number of its images as ``units_done``, of a
    webhook delivery that of its tries.

    A worker is `running` while it runs one of the tenant's jobs, and else `ready`.
    """

    resource: Resource
    id: str
    status: str
    phase: str | None = None
    progress: dict[str, Any] | None = None


def list_states(session: Session, tenant_id: str) -> list[State]:
    """Newest first within each resource."""
    return [
        *(State("job", *row) for row in _newest(session, tenant_id, Job, Job.phase, Job.progress)),
        *(State("dataset", *row) for row in _newest(session, tenant_id, Dataset)),
        *(State("adapter", *row) for row in _newest(session, tenant_id, Adapter)),
        *(
            State("generation", row[0], row[1], None, {"units_done": len(row[2])})
            for row in _newest(session, tenant_id, Generation, Generation.images)
        ),
        *(
            State("delivery", row.event_id, row.status, None, {"units_done": row.tries})
            for row in _newest_deliveries(session, tenant_id)
        ),
        *(State("model", *row) for row in list_statuses(session)),
        *(State("worker", one.id, "running" if one.job_id else "ready") for one in list_workers(session, tenant_id)),
    ]


def _newest(session: Session, tenant_id: str, table: Any, *columns: Any) -> list[Any]:
    query = select(table.id, table.status, *columns).where(table.tenant_id == tenant_id)
    return list(session.execute(query.order_by(table.id.desc()).limit(MAX_OF_EACH)).all())


def _newest_deliveries(session: Session, tenant_id: str) -> list[Any]:
    """Of the newest jobs, whose deliveries an index finds."""
    newest = select(Job.id).where(Job.tenant_id == tenant_id).order_by(Job.id.desc()).limit(MAX_OF_EACH)
    columns = (WebhookDelivery.event_id, WebhookDelivery.status, WebhookDelivery.tries)
    query = select(*columns).where(WebhookDelivery.job_id.in_(newest))
    return list(session.execute(query.order_by(WebhookDelivery.event_id.desc()).limit(MAX_OF_EACH)).all())
