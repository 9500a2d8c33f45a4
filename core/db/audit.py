"""The audit log: append-only, written in the transaction of the action itself. Only ``record`` writes it."""

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from core.db.paging import read_page
from core.db.row_security import find_actor
from core.db.tables import AuditEntry
from core.domain.audit import Action
from core.domain.ids import new_id


def record(session: Session, action: Action, target_id: str) -> None:
    """Under the tenant that the transaction acts for. Workers are not actors: jobs' events record their work."""
    actor = find_actor(session)
    if actor is None:
        return
    entry = insert(AuditEntry).values(
        id=new_id("aud"),
        tenant_id=func.current_setting("atelier.tenant"),
        key_id=actor.key_id,
        action=action,
        target_id=target_id,
        address=actor.address,
    )
    session.execute(entry)


def list_entries(
    session: Session, tenant_id: str, *, action: Action | None = None, after: str | None = None, limit: int = 20
) -> tuple[list[AuditEntry], bool]:
    """Newest first, by id; and whether there are more."""
    query = select(AuditEntry).where(AuditEntry.tenant_id == tenant_id)
    if action is not None:
        query = query.where(AuditEntry.action == action)
    return read_page(session, query, AuditEntry.id, after, limit)
