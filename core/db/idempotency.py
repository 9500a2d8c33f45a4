"""What an Idempotency-Key has created, for 24 hours."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from core.db.tables import IdempotencyRecord
from core.domain.errors import IdempotencyMismatch, NotFound

Row = TypeVar("Row")


def find_original(
    session: Session,
    tenant_id: str,
    route: str,
    key: str,
    body_sha256: str,
    get: Callable[[Session, str, str], Row],
) -> Row | None:
    """What the key created before, by ``get`` of the tenant and the id. A key is free again when its record is older,
    or when ``get`` raises NotFound. Raises IdempotencyMismatch if the body differs."""
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
    try:
        return get(session, tenant_id, record.resource_id)
    except NotFound:
        session.execute(delete(IdempotencyRecord).where(*_same(tenant_id, route, key)))
        return None


def record(session: Session, tenant_id: str, route: str, key: str, body_sha256: str, resource_id: str) -> None:
    """Raises sqlalchemy.exc.IntegrityError if a concurrent request was first."""
    session.add(
        IdempotencyRecord(tenant_id=tenant_id, route=route, key=key, body_sha256=body_sha256, resource_id=resource_id)
    )
    session.flush()


def _same(tenant_id: str, route: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return (
        IdempotencyRecord.tenant_id == tenant_id,
        IdempotencyRecord.route == route,
        IdempotencyRecord.key == key,
    )
