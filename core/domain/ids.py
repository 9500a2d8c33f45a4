"""Prefixed ids that sort by time: ``job_`` + a ULID (https://github.com/ulid/spec) in lower case."""

import os
import time
from typing import Literal

Prefix = Literal["ds", "job", "ad", "gen", "cap", "evt", "key", "ten", "aud", "chk", "prm", "smp", "pub", "lnk", "cov"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: Prefix) -> str:
    """48 bits of milliseconds and 80 random bits, base 32: 26 characters after the prefix."""
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    digits = (_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
    return f"{prefix}_{''.join(digits)}"
