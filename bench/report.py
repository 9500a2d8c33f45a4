"""The end of the measuring programs: their lines into a file, on the screen, and into a document."""

from collections.abc import Sequence
from pathlib import Path

from tests.chaos.report import write_between_markers


def write_report(lines: Sequence[str], out: Path, document: Path | None, marker: str) -> None:
    """``document``: has markers of that name. Raises ValueError without them."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"))
    if document is not None:
        write_between_markers(document, marker, lines)
