"""From a key to the one who calls."""

import hmac
from dataclasses import dataclass

from sqlalchemy.orm import Session

from core.db import keys
from core.db.tables import ApiKey
from core.domain.errors import Forbidden, Unauthenticated
from core.domain.keys import PREFIX, check_api_key_format, hash_api_key
from core.settings import Settings

SHOWN_CHARACTERS = len(PREFIX) + 4


@dataclass(frozen=True)
class Caller:
    """Who sent a request. The tenant stands in every query."""

    key_id: str
    tenant_id: str
    is_admin: bool


def authenticate(session: Session, settings: Settings, key: str) -> Caller:
    """Raises Unauthenticated for a key that is malformed, unknown or revoked."""
    if not check_api_key_format(key):
        raise Unauthenticated("This is no API key: it begins with atl_ and has 53 characters. Copy it again.")
    sha256 = hash_api_key(key)
    row = keys.find_key(session, sha256)
    # The index has found it by the hash, which tells nothing of other keys; compared once more in constant time.
    if row is None or not hmac.compare_digest(row.sha256, sha256):
        raise Unauthenticated("This API key is not known here, or was revoked. Ask the operator for another.")
    return caller_of(row, settings)


def caller_of(row: ApiKey, settings: Settings) -> Caller:
    """The operator's own key, ATELIER_API_KEY, is the admin's."""
    admin = hash_api_key(settings.api_key.get_secret_value()) if settings.api_key else ""
    return Caller(key_id=row.id, tenant_id=row.tenant_id, is_admin=hmac.compare_digest(row.sha256, admin))


def require_admin(caller: Caller) -> None:
    """Raises Forbidden."""
    if not caller.is_admin:
        raise Forbidden("This needs the operator's key; it lies in the file admin.key of the service's home.")


def add_admin_key(session: Session, settings: Settings) -> None:
    """Makes ATELIER_API_KEY known, if one is set. Raises ValueError for one of a wrong form."""
    if settings.api_key is None:
        return
    key = settings.api_key.get_secret_value()
    if not check_api_key_format(key):
        raise ValueError("ATELIER_API_KEY is no key that Atelier makes: leave it out, and `atelier up` makes one")
    keys.ensure_admin_key(session, sha256=hash_api_key(key), prefix=key[:SHOWN_CHARACTERS])
