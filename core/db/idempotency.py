"""What an Idempotency-Key has created, for 24 hours."""

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from core.db.tables import IdempotencyRecord
from core.domain.errors import IdempotencyMismatch


def find_original(session: Session, tenant_id: str, route: str, key: str, body_sha256: str) -> str | None:
    """The id of what the key created before. An older record is deleted, so that its key is free again. Raises
    IdempotencyMismatch if the body differs."""
    expired = IdempotencyRecord.created_at < func.clock_timestamp() - func.make_interval(0, 0, 0, 1)
    session.execute(delete(IdempotencyRecord).where(*_same(tenant_id, route, key), expired))
    record = session.execute(select(IdempotencyRecord).where(*_same(tenant_id, route, key))).scalar_one_or_none()
    if record is None:
        return None
    if record.body_sha256 != body_sha256:
        raise IdempotencyMismatch(
            f"This Idempotency-Key created {record.resource_id} from another body. Send that body again, or use a new "
            "key."
        )
    return record.resource_id


def record(session: Session, tenant_id: str, route: str, key: str, body_sha256: str, resource_id: str) -> None:
    """Raises sqlalchemy.exc.IntegrityError if a concurrent request was first."""
    session.add(
        IdempotencyRecord(tenant_id=tenant_id, route=route, key=key, body_sha256=body_sha256, resource_id=resource_id)
    )
    session.flush()


def forget(session: Session, tenant_id: str, route: str, key: str) -> None:
    """What the key created is deleted: it is free again."""
    session.execute(delete(IdempotencyRecord).where(*_same(tenant_id, route, key)))


def _same(tenant_id: str, route: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return (
        IdempotencyRecord.tenant_id == tenant_id,
        IdempotencyRecord.route == route,
        IdempotencyRecord.key == key,
    )
