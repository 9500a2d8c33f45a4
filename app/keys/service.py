"""Creates and ends keys. Secrets are generated here and leave with the response; only their hash is stored."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.auth.service import Caller, is_operators
from app.keys.schemas import KeyRequest
from app.tenants.service import choose_tenant
from core.db import keys
from core.db.tables import ApiKey
from core.domain.errors import InvalidRequest, WrongState
from core.domain.keys import SHOWN_CHARACTERS, hash_api_key, make_api_key
from core.settings import Settings


@dataclass(frozen=True)
class CreatedKey:
    row: ApiKey
    secret: str


def create(session: Session, caller: Caller, request: KeyRequest, tenant: str | None) -> CreatedKey:
    """``tenant``: from the query. Raises Forbidden, NotFound, InvalidRequest."""
    if tenant is not None and request.tenant not in (None, tenant):
        raise InvalidRequest("The body and the query name two tenants.", {"/tenant": ["differs from the query"]})
    secret = make_api_key()
    row = keys.insert_key(
        session,
        tenant_id=choose_tenant(session, caller, request.tenant or tenant),
        name=request.name,
        scopes=request.scopes,
        expires_at=request.expires_at,
        sha256=hash_api_key(secret),
        prefix=secret[:SHOWN_CHARACTERS],
    )
    return CreatedKey(row, secret)


def list_page(
    session: Session, caller: Caller, tenant: str | None, *, after: str | None, limit: int
) -> tuple[list[ApiKey], bool]:
    """Raises Forbidden, NotFound."""
    return keys.list_keys(session, choose_tenant(session, caller, tenant), after=after, limit=limit)


def rotate(
    session: Session, settings: Settings, caller: Caller, tenant: str | None, key_id: str, overlap_seconds: int
) -> CreatedKey:
    """Raises Forbidden, NotFound, WrongState."""
    tenant_id, secret = choose_tenant(session, caller, tenant), make_api_key()
    refuse_operators(session, settings, tenant_id, key_id)
    row = keys.rotate_key(
        session,
        tenant_id,
        key_id,
        sha256=hash_api_key(secret),
        prefix=secret[:SHOWN_CHARACTERS],
        overlap_seconds=overlap_seconds,
    )
    return CreatedKey(row, secret)


def revoke(session: Session, settings: Settings, caller: Caller, tenant: str | None, key_id: str) -> None:
    """Raises Forbidden, NotFound, WrongState."""
    tenant_id = choose_tenant(session, caller, tenant)
    refuse_operators(session, settings, tenant_id, key_id)
    keys.revoke_key(session, tenant_id, key_id)


def refuse_operators(session: Session, settings: Settings, tenant_id: str, key_id: str) -> None:
    """The operator would be locked out, and no restart of the service would let them in again. Raises WrongState."""
    if is_operators(keys.get_key(session, tenant_id, key_id), settings):
        raise WrongState(
            f"Key {key_id} is the operator's own: start the service with another ATELIER_API_KEY, then revoke this one."
        )
