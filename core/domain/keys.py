"""API keys: their form, the parts that may be stored, and their scopes.

``atl_`` + 32 random bytes in URL-safe base64 + a checksum of 6 characters. The prefix lets secret scanners find a
leaked key; the checksum distinguishes a key from a typing error without a database.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from typing import Literal, get_args

Scope = Literal["read", "jobs", "admin"]
"""`read` reads, `jobs` changes datasets, jobs and adapters, `admin` does everything within its tenant."""

SCOPES: tuple[Scope, ...] = get_args(Scope)

PREFIX = "atl_"
SECRET_BYTES = 32
CHECKSUM_LENGTH = 6  # 62**6 > 2**32

SHOWN_CHARACTERS = len(PREFIX) + 4
"""By which its owner recognizes a key: 24 of its 256 random bits."""

_DIGITS = string.digits + string.ascii_letters
_SHAPE = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}[A-Za-z0-9]{{{CHECKSUM_LENGTH}}}")


def make_api_key() -> str:
    body = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    return body + _checksum(body)


def check_api_key_format(key: str) -> bool:
    """True for a key that this module could have made, whether or not it is registered."""
    if _SHAPE.fullmatch(key) is None:
        return False
    return hmac.compare_digest(_checksum(key[:-CHECKSUM_LENGTH]), key[-CHECKSUM_LENGTH:])


def hash_api_key(key: str) -> str:
    """SHA-256 in hexadecimal. A slow hash would add nothing: 256 random bits cannot be guessed."""
    return hashlib.sha256(key.encode()).hexdigest()


def _checksum(body: str) -> str:
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM_LENGTH):
        rest, digit = divmod(rest, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
