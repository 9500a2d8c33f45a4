"""When a webhook is sent and retried, and the form of its secrets (Standard Webhooks 1.0)."""

import base64
import binascii
import os
from enum import StrEnum

RETRY_DELAYS_SECONDS = (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""The wait before each attempt, counted from the end of the previous one: ten attempts over some three days."""
MAX_TRIES = len(RETRY_DELAYS_SECONDS)
JITTER = 0.1
ROTATION_SECONDS = 86_400
"""For this long a replaced secret signs beside its successor."""

SECRET_PREFIX = "whsec_"  # noqa: S105 - every secret begins so
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
NEW_SECRET_BYTES = 32
SECRET_PATTERN = r"^whsec_([A-Za-z0-9+/]{4}){8,21}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"  # noqa: S105 - none itself
"""For clients; only padded base64. ``check_secret`` decides."""


TEST_TYPE = "webhook.test"
TEST_SEQ = 0
"""Of a message that tests a receiver: a job's own events count from 1."""


class DeliveryStatus(StrEnum):
    PENDING = "pending"  # due now or later, or being sent
    DELIVERED = "delivered"  # pending -> delivered by a 2xx
    FAILED = "failed"  # pending -> failed after the last try, or by a 410
    CANCELED = "canceled"  # pending -> canceled: the receiver answered 410 to another one of the job


def find_delay(tries: int, draw: float) -> float | None:
    """Seconds to wait after ``tries`` failed attempts; None after the last.

    ``draw`` from 0 to 1 spreads retries over a tenth of the delay, so that those of one outage are spread out.
    """
    return RETRY_DELAYS_SECONDS[tries] * (1 + JITTER * draw) if tries < MAX_TRIES else None


def make_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(os.urandom(NEW_SECRET_BYTES)).decode()


def check_secret(secret: str) -> str:
    """Raises ValueError, whose message does not repeat the secret."""
    encoded = secret.removeprefix(SECRET_PREFIX)
    try:
        size = len(base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if not secret.startswith(SECRET_PREFIX) or not MIN_SECRET_BYTES <= size <= MAX_SECRET_BYTES:
        raise ValueError(
            f"must be {SECRET_PREFIX} and the base64 of {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} random bytes"
        )
    return secret
