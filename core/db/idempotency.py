"""What an Idempotency-Key has created, for 24 hours."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from core.db.tables import IdempotencyRecord
from core.domain.errors import IdempotencyMismatch, NotFound


@dataclass(frozen=True)
class KeyedRequest:
    """A creating request with an Idempotency-Key. ``route``: its method and path, ids included, so that the same body
    for two datasets is two requests."""

    tenant_id: str
    route: str
    key: str
    body_sha256: str


class Created(Protocol):
    """A row, or what stands for one."""

    @property
    def id(self) -> str: ...


Row = TypeVar("Row", bound=Created)
Get = Callable[[Session, str, str], Row]
"""By the tenant and the id. Raises NotFound."""


def create_once(
    session: Session, request: KeyedRequest | None, get: Get[Row], insert: Callable[[], Row]
) -> tuple[Row, bool]:
    """What ``insert`` returns, recorded in this transaction; or what the request has created before. And whether it is
    the latter. None: a request without a key, which always inserts.

    A racing repeat waits for the end of this transaction, so call it before anything else is locked. Raises
    IdempotencyMismatch, and what ``insert`` raises.
    """
    if request is None:
        return insert(), False
    names = f"{request.tenant_id}\n{request.route}\n{request.key}"
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(names, 0))))
    if (original := find_original(session, request, get)) is not None:
        return original, True
    row = insert()
    session.add(
        IdempotencyRecord(
            tenant_id=request.tenant_id,
            route=request.route,
            key=request.key,
            body_sha256=request.body_sha256,
            resource_id=row.id,
        )
    )
    session.flush()
    return row, False


def find_original(session: Session, request: KeyedRequest, get: Get[Row]) -> Row | None:
    """What the request has created before. A key is free again when its record is older, or when ``get`` raises
    NotFound. Raises IdempotencyMismatch if the body differs."""
    session.execute(delete(IdempotencyRecord).where(*_same(request), _expired()))
    record = session.execute(select(IdempotencyRecord).where(*_same(request))).scalar_one_or_none()
    if record is None:
        return None
    if record.body_sha256 != request.body_sha256:
        raise IdempotencyMismatch(
            f"This Idempotency-Key created {record.resource_id} from another body. Send that body again, or use a new "
            "key."
        )
    try:
        return get(session, request.tenant_id, record.resource_id)
    except NotFound:
        stale = IdempotencyRecord.resource_id == record.resource_id  # a racing repeat may have made another meanwhile
        session.execute(delete(IdempotencyRecord).where(*_same(request), stale))
        return None


def forget_expired(session: Session) -> None:
    """Of all tenants."""
    session.execute(delete(IdempotencyRecord).where(_expired()))


def _expired() -> ColumnElement[bool]:
    return IdempotencyRecord.created_at < func.clock_timestamp() - func.make_interval(0, 0, 0, 1)


def _same(request: KeyedRequest) -> tuple[ColumnElement[bool], ...]:
    return (
        IdempotencyRecord.tenant_id == request.tenant_id,
        IdempotencyRecord.route == request.route,
        IdempotencyRecord.key == request.key,
    )
