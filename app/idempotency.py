"""The header Idempotency-Key, and what it is compared by."""

import hashlib
import json
from typing import Annotated, Any

from fastapi import Header

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="A repeat with the same key and body returns the first answer, for 24 hours.",
    ),
]
REPLAYED = "Idempotent-Replayed"


def hash_body(body: dict[str, Any]) -> str:
    """Over the parsed body, so that spaces and the order of fields do not count."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
