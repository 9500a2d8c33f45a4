"""The bundled example set, for a first job without images of one's own."""

import re
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "blip"
EXAMPLE_NAME = re.compile(r"[a-z0-9-]+\.(png|txt)")


def list_example() -> list[str]:
    """The files' names; none where the service runs without its examples."""
    return sorted(path.name for path in EXAMPLE.glob("*") if EXAMPLE_NAME.fullmatch(path.name))
