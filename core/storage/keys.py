"""Valid keys: relative paths of plain segments, always made by the service and never by a client.

The rules are narrow enough that a key means the same in a file system, in an S3 request and in a URL.
"""

import re

from core.storage.protocol import InvalidKey

MAX_KEY_LENGTH = 400
"""With a store's own prefix it stays below Garage's limit of 479 bytes, the lowest of the known stores."""
MAX_SEGMENT_LENGTH = 255

# No leading dot: that rules out "." and "..", and keeps hidden names for a store's own use.
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def is_segment(name: str) -> bool:
    """Whether this may be a segment of a key."""
    return len(name) <= MAX_SEGMENT_LENGTH and _SEGMENT.fullmatch(name) is not None


def is_key(key: str) -> bool:
    """Whether the service could have made this key."""
    return len(key) <= MAX_KEY_LENGTH and all(map(is_segment, key.split("/")))


def check_key(key: str) -> tuple[str, ...]:
    """The segments of a key. Raises InvalidKey."""
    if not is_key(key):
        raise InvalidKey(f"not a storage key: {key[:80]!r}")
    return tuple(key.split("/"))


def check_prefix(prefix: str) -> tuple[str, ...]:
    """The segments of a folder, given with or without its last slash; none for the whole store. Raises InvalidKey."""
    return check_key(prefix.removesuffix("/")) if prefix else ()
