"""``python3 -m deploy.make_env``: write a .env for docker-compose.yml, with secrets of one's own.

Needs nothing but Python, and never writes over a .env that is there.
"""

import os
import re
import secrets
import sys
from pathlib import Path

from core.domain.keys import make_api_key

ROOT = Path(__file__).resolve().parent.parent
SECRET_BYTES = 32

_UNSET = re.compile(r"^([A-Z0-9_]+)=$", re.MULTILINE)


def fill(example: str) -> str:
    """The example with a fresh secret for each variable that has no value."""
    return _UNSET.sub(lambda match: f"{match[1]}={make_secret(match[1])}", example)


def make_secret(name: str) -> str:
    if name == "ATELIER_API_KEY":
        return make_api_key()
    if name == "S3_ACCESS_KEY_ID":
        return f"GK{secrets.token_hex(12)}"  # as Garage makes them itself
    return secrets.token_hex(SECRET_BYTES)


def main() -> None:
    target = ROOT / ".env"
    text = fill((ROOT / ".env.example").read_text())
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        sys.exit(f"{target} is already there; its secrets may be in use, so it stays as it is.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
