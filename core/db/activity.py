"""The states of a tenant's newest things, in short rows that are cheap to read again and again."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db.tables import Adapter, Dataset, Generation, Job

Resource = Literal["job", "dataset", "adapter", "generation"]

RESOURCES: tuple[Resource, ...] = get_args(Resource)
MAX_OF_EACH = 200
"""Of each resource, the newest so many."""


@dataclass(frozen=True)
class State:
    """``progress``: a job's, as workers write it; of a generation the number of its images as ``units_done``."""

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
    ]


def _newest(session: Session, tenant_id: str, table: Any, *columns: Any) -> list[Any]:
    query = select(table.id, table.status, *columns).where(table.tenant_id == tenant_id)
    return list(session.execute(query.order_by(table.id.desc()).limit(MAX_OF_EACH)).all())
