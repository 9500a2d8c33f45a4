"""Finds the caller by the API key."""

import hmac
from dataclasses import dataclass

from sqlalchemy.orm import Session

from core.db import keys
from core.db.row_security import Actor, name_actor
from core.db.tables import ApiKey
from core.domain.errors import Unauthenticated
from core.domain.keys import SCOPES, SHOWN_CHARACTERS, Scope, check_api_key_format, hash_api_key
from core.settings import Settings


@dataclass(frozen=True)
class Caller:
    """The sender of a request. Every query names the tenant.

    The operator holds ATELIER_API_KEY: it has every scope, makes tenants and registers models.
    """

    key_id: str
    tenant_id: str
    scopes: frozenset[Scope]
    is_operator: bool = False
    session_sha256: str | None = None
    """The hash of the dashboard session's token, if the request came by one rather than by the key itself."""

    def as_actor(self, address: str) -> Actor:
        return Actor(self.tenant_id, self.key_id, address, is_operator=self.is_operator)


@dataclass(frozen=True)
class Authenticated:
    """``key``: to be noted as used, in a transaction of its own; None if it was lately."""

    caller: Caller
    key: ApiKey | None


def authenticate(session: Session, settings: Settings, key: str, address: str) -> Authenticated:
    """The transaction then acts for the caller. Raises Unauthenticated for a key that is malformed, unknown, revoked
    or expired."""
    row = find_valid_key(session, key, operators=hash_of_operator(settings))
    caller = caller_of(row, settings)
    name_actor(session, caller.as_actor(address))
    return Authenticated(caller, None if keys.is_use_noted(row) else row)


def find_valid_key(session: Session, key: str, *, operators: str = "") -> ApiKey:
    """``operators``: the hash of the operator's key, which then acts as the operator. Raises Unauthenticated."""
    if not check_api_key_format(key):
        raise Unauthenticated("This is not an API key. A key starts with atl_ and has 53 characters: copy it again.")
    sha256 = hash_api_key(key)
    row = keys.find_key(session, sha256, operators=operators)
    # The index found it by the hash, which reveals nothing about other keys; this compares again in constant time.
    if row is None or not hmac.compare_digest(row.sha256, sha256):
        raise Unauthenticated("This API key is unknown, revoked or expired. Ask for another.")
    return row


def check_still_valid(session: Session, caller: Caller) -> None:
    """For streams and waits, which outlast the check at the gate. Raises Unauthenticated."""
    if not keys.is_valid(session, caller.key_id):
        raise Unauthenticated("This API key has been revoked or has expired meanwhile. Ask for another.")
    if caller.session_sha256 and keys.find_token(session, caller.session_sha256, "session") is None:
        raise Unauthenticated("This session has ended. Log in to the dashboard again.")


def caller_of(row: ApiKey, settings: Settings, session_sha256: str | None = None) -> Caller:
    if is_operators(row, settings):
        return Caller(row.id, row.tenant_id, frozenset(SCOPES), is_operator=True, session_sha256=session_sha256)
    return Caller(row.id, row.tenant_id, frozenset(row.scopes), session_sha256=session_sha256)


def is_operators(row: ApiKey, settings: Settings) -> bool:
    """Whether the key is ATELIER_API_KEY."""
    return hmac.compare_digest(row.sha256, hash_of_operator(settings))


def hash_of_operator(settings: Settings) -> str:
    """Of ATELIER_API_KEY; empty without one."""
    return hash_api_key(settings.api_key.get_secret_value()) if settings.api_key else ""


def add_admin_key(session: Session, settings: Settings) -> None:
    """Registers ATELIER_API_KEY, if one is set. Raises ValueError for a malformed one."""
    if settings.api_key is None:
        return
    key = settings.api_key.get_secret_value()
    if not check_api_key_format(key):
        raise ValueError("ATELIER_API_KEY is not a key that Atelier made: leave it out, and `atelier up` makes one")
    keys.ensure_admin_key(session, sha256=hash_api_key(key), prefix=key[:SHOWN_CHARACTERS])
