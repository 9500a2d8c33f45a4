"""Links to adapters: their secrets, and how long they live.

A secret is 32 random bytes in URL-safe base64. Only its SHA-256 is stored; a slow hash would add nothing.
"""

import hashlib
import re
import secrets

SECRET_BYTES = 32
MIN_SECONDS, MAX_SECONDS = 60, 365 * 86_400
DEFAULT_SECONDS = 7 * 86_400
MAX_LINKS = 100
"""Of one adapter, expired ones included: they are removed by their owner."""

_SHAPE = re.compile(r"[A-Za-z0-9_-]{43}")


def make_link_secret() -> str:
    return secrets.token_urlsafe(SECRET_BYTES)


def check_link_secret(secret: str) -> bool:
    """True for a secret that this module could have made."""
    return _SHAPE.fullmatch(secret) is not None


def hash_link_secret(secret: str) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()
