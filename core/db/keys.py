"""API keys, and the dashboard's short-lived tokens for them. Only hashes are stored."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlalchemy import ColumnElement, Select, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db import audit
from core.db.own_rows import get_own
from core.db.paging import read_page
from core.db.row_security import act_for, present
from core.db.session import from_now, read_clock
from core.db.tables import DEFAULT_TENANT, ApiKey, DashboardToken
from core.domain.audit import Action
from core.domain.errors import WrongState
from core.domain.ids import new_id
from core.domain.keys import SCOPES, Scope

TokenKind = Literal["login", "session"]

USE_NOTED_SECONDS = 60
"""The last use of a key is recorded at most this often."""
_ACT_BY_KEY = text("SELECT * FROM act_by_key(:sha256, :operators)")
"""See migrations/versions/0180_act_by_key.py."""


def find_key(session: Session, sha256: str, *, operators: str = "") -> ApiKey | None:
    """A key that is known, not revoked and not expired. The transaction then acts for its tenant; as the operator, if
    ``operators``, the hash of the operator's key, is its hash."""
    query = select(ApiKey).from_statement(_ACT_BY_KEY)
    return session.execute(query, {"sha256": sha256, "operators": operators}).scalar_one_or_none()


def is_valid(session: Session, key_id: str) -> bool:
    """For work that outlasts one transaction of its caller."""
    return session.execute(_valid_keys().where(ApiKey.id == key_id)).first() is not None


def is_use_noted(key: ApiKey) -> bool:
    """Recently, despite any difference between the two clocks."""
    return key.last_used_at is not None and (
        (datetime.now(UTC) - key.last_used_at).total_seconds() < USE_NOTED_SECONDS / 2
    )


def note_use(session: Session, key: ApiKey) -> None:
    """Once in USE_NOTED_SECONDS, over all processes; waits neither for a locked row nor for the disk.

    For a transaction of its own: a crash could lose other writes in it.
    """
    if is_use_noted(key):
        return
    minute_ago = func.clock_timestamp() - timedelta(seconds=USE_NOTED_SECONDS)
    session.execute(select(func.set_config("synchronous_commit", "off", True)))
    stale = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < minute_ago)
    free = select(ApiKey.id).where(ApiKey.id == key.id, stale).with_for_update(skip_locked=True).scalar_subquery()
    session.execute(update(ApiKey).where(ApiKey.id == free).values(last_used_at=func.clock_timestamp()))


def ensure_admin_key(session: Session, *, sha256: str, prefix: str) -> None:
    """Inserts the operator's key if its hash is missing; safe when several processes start at once."""
    act_for(session, DEFAULT_TENANT)
    values = {
        "id": new_id("key"),
        "tenant_id": DEFAULT_TENANT,
        "name": "admin",
        "prefix": prefix,
        "sha256": sha256,
        "scopes": list(SCOPES),
    }
    session.execute(insert(ApiKey).values(**values).on_conflict_do_nothing(index_elements=["sha256"]))


# --- the admins' side -------------------------------------------------------------------------------------


def insert_key(
    session: Session,
    *,
    tenant_id: str,
    name: str,
    scopes: Sequence[Scope],
    sha256: str,
    prefix: str,
    expires_at: datetime | None,
) -> ApiKey:
    key = _add_key(session, tenant_id, name, scopes, sha256, prefix, expires_at)
    audit.record(session, Action.KEY_CREATED, key.id)
    return key


def get_key(session: Session, tenant_id: str, key_id: str, *, lock: bool = False) -> ApiKey:
    """Raises NotFound, also for another tenant's. ``lock`` holds the row until the transaction ends."""
    return get_own(session, ApiKey, "key", tenant_id, key_id, lock=lock)


def list_keys(
    session: Session, tenant_id: str, *, after: str | None = None, limit: int = 20
) -> tuple[list[ApiKey], bool]:
    """Newest first, by id, including revoked ones; and whether there are more."""
    query = select(ApiKey).where(ApiKey.tenant_id == tenant_id)
    return read_page(session, query, ApiKey.id, after, limit)


def revoke_key(session: Session, tenant_id: str, key_id: str) -> None:
    """At once, with the dashboard sessions that it opened. Repeating it is not an error. Raises NotFound."""
    key = get_key(session, tenant_id, key_id, lock=True)
    if key.revoked_at is None:
        key.revoked_at = read_clock(session)
        audit.record(session, Action.KEY_REVOKED, key.id)


def rotate_key(
    session: Session, tenant_id: str, key_id: str, *, sha256: str, prefix: str, overlap_seconds: float
) -> ApiKey:
    """A new key with equal name, scopes and expiry; the old one ends after the overlap. Raises NotFound, WrongState."""
    old, now = get_key(session, tenant_id, key_id, lock=True), read_clock(session)
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise WrongState(f"Key {key_id} is no longer valid: create a new one.")
    new = _add_key(session, tenant_id, old.name, old.scopes, sha256, prefix, old.expires_at)
    if overlap_seconds:
        end = now + timedelta(seconds=overlap_seconds)
        old.expires_at = end if old.expires_at is None else min(end, old.expires_at)
    else:
        old.revoked_at = now
    audit.record(session, Action.KEY_ROTATED, key_id)
    return new


# --- the dashboard's tokens -------------------------------------------------------------------------------


def add_token(session: Session, *, sha256: str, kind: TokenKind, key: ApiKey, lifetime_seconds: float) -> None:
    """Stores a token, and deletes the tenant's expired ones."""
    expired = DashboardToken.expires_at <= func.clock_timestamp()
    session.execute(delete(DashboardToken).where(DashboardToken.tenant_id == key.tenant_id, expired))
    values = {"sha256": sha256, "kind": kind, "key_id": key.id, "tenant_id": key.tenant_id}
    expires_at = from_now(lifetime_seconds)
    session.execute(insert(DashboardToken).values(**values, expires_at=expires_at))


def find_token(session: Session, sha256: str, kind: TokenKind) -> ApiKey | None:
    """The key of a token, if both are valid. The transaction then acts for its tenant."""
    present(session, sha256)
    token = session.execute(select(DashboardToken).where(*_good(sha256, kind))).scalar_one_or_none()
    return None if token is None else _key_of(session, token)


def take_token(session: Session, sha256: str, kind: TokenKind) -> ApiKey | None:
    """As find_token, and the token is used up: of two concurrent calls only one gets the key."""
    key = find_token(session, sha256, kind)
    taken = delete(DashboardToken).where(*_good(sha256, kind)).returning(DashboardToken.sha256)
    return key if session.execute(taken).first() is not None else None


def drop_token(session: Session, sha256: str) -> None:
    session.execute(delete(DashboardToken).where(DashboardToken.sha256 == sha256))


# --- below: the parts -------------------------------------------------------------------------------------


def _add_key(
    session: Session,
    tenant_id: str,
    name: str,
    scopes: Sequence[str],
    sha256: str,
    prefix: str,
    expires_at: datetime | None,
) -> ApiKey:
    key = ApiKey(
        id=new_id("key"),
        tenant_id=tenant_id,
        name=name,
        scopes=list(scopes),
        sha256=sha256,
        prefix=prefix,
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    session.refresh(key)
    return key


def _key_of(session: Session, token: DashboardToken) -> ApiKey | None:
    act_for(session, token.tenant_id)
    return session.execute(_valid_keys().where(ApiKey.id == token.key_id)).scalar_one_or_none()


def _valid_keys() -> Select[ApiKey]:
    in_time = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.clock_timestamp())
    return select(ApiKey).where(ApiKey.revoked_at.is_(None), in_time)


def _good(sha256: str, kind: TokenKind) -> tuple[ColumnElement[bool], ...]:
    return (
        DashboardToken.sha256 == sha256,
        DashboardToken.kind == kind,
        DashboardToken.expires_at > func.clock_timestamp(),
    )
