"""Splits a secret into two shares, so that it can wait for its use without being stored anywhere.

One share is random bytes, the other is the secret XOR these bytes. Each alone is uniformly random, whatever the secret
is (a one-time pad), so they are kept in two stores: who reads one of them learns no more than a bound on the length.
"""

import secrets

MAX_SECRET_BYTES = 256


def split_secret(secret: str) -> tuple[bytes, bytes]:
    """Two shares of MAX_SECRET_BYTES + 2 bytes each. Raises ValueError for a longer secret."""
    content = secret.encode()
    if len(content) > MAX_SECRET_BYTES:
        raise ValueError(f"a secret of more than {MAX_SECRET_BYTES} bytes")
    framed = len(content).to_bytes(2, "big") + content.ljust(MAX_SECRET_BYTES, b"\0")
    pad = secrets.token_bytes(len(framed))
    return pad, _xor(framed, pad)


def join_secret(first: bytes, second: bytes) -> str:
    """Raises ValueError if the shares do not belong together."""
    framed = _xor(first, second)
    length = int.from_bytes(framed[:2], "big")
    if length > MAX_SECRET_BYTES or any(framed[2 + length :]):
        raise ValueError("two shares that are not of one secret")
    return framed[2 : 2 + length].decode()


def _xor(first: bytes, second: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(first, second, strict=True))
