"""API keys, and the short-lived tokens of the dashboard that stand for one. Only hashes are kept."""

from datetime import timedelta
from typing import Literal

from sqlalchemy import ColumnElement, Select, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db.tables import DEFAULT_TENANT, ApiKey, DashboardToken
from core.domain.ids import new_id

TokenKind = Literal["login", "session"]


def find_key(session: Session, sha256: str) -> ApiKey | None:
    """A key that is known and not revoked."""
    return session.execute(_valid_keys().where(ApiKey.sha256 == sha256)).scalar_one_or_none()


def ensure_admin_key(session: Session, *, sha256: str, prefix: str) -> None:
    """Inserts the operator's key if its hash is missing; safe when several processes start at once."""
    values = {"id": new_id("key"), "tenant_id": DEFAULT_TENANT, "name": "admin", "prefix": prefix, "sha256": sha256}
    session.execute(insert(ApiKey).values(**values).on_conflict_do_nothing(index_elements=["sha256"]))


def add_token(session: Session, *, sha256: str, kind: TokenKind, key_id: str, lifetime_seconds: float) -> None:
    """Remembers a token, and forgets those that ran out."""
    session.execute(delete(DashboardToken).where(DashboardToken.expires_at <= func.clock_timestamp()))
    expires_at = func.clock_timestamp() + timedelta(seconds=lifetime_seconds)
    session.execute(insert(DashboardToken).values(sha256=sha256, kind=kind, key_id=key_id, expires_at=expires_at))


def find_token(session: Session, sha256: str, kind: TokenKind) -> ApiKey | None:
    """The key that a token stands for, if the token is good."""
    query = _valid_keys().join(DashboardToken, DashboardToken.key_id == ApiKey.id)
    return session.execute(query.where(*_good(sha256, kind))).scalar_one_or_none()


def take_token(session: Session, sha256: str, kind: TokenKind) -> ApiKey | None:
    """As find_token, and the token is used up: of two at once only one gets the key."""
    taken = delete(DashboardToken).where(*_good(sha256, kind)).returning(DashboardToken.key_id)
    key_id = session.execute(taken).scalar_one_or_none()
    return session.execute(_valid_keys().where(ApiKey.id == key_id)).scalar_one_or_none()


def drop_token(session: Session, sha256: str) -> None:
    session.execute(delete(DashboardToken).where(DashboardToken.sha256 == sha256))


def _valid_keys() -> Select[ApiKey]:
    return select(ApiKey).where(ApiKey.revoked_at.is_(None))


def _good(sha256: str, kind: TokenKind) -> tuple[ColumnElement[bool], ...]:
    return (
        DashboardToken.sha256 == sha256,
        DashboardToken.kind == kind,
        DashboardToken.expires_at > func.clock_timestamp(),
    )
