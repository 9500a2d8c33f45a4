"""The check's tables in Markdown."""

from collections.abc import Sequence

from bench.gpu.parts import Ran
from bench.gpu.rows import CheckRow, MemoryRow, StepRow

COMPILED = {"no": "", "blocks": "blocks", "whole": "whole"}
ANSWERS = {True: "yes", False: "**no**", None: ""}


def write_report(title: str, shapes: str, seconds: float, parts: Sequence[Ran]) -> str:
    """``title``: the device and the versions."""
    rows = [row for part in parts for row in part.rows]
    head = f"# GPU check\n\n{title}. Bases of {shapes} shapes with random weights; {seconds:.0f} s.\n"
    tables = [
        _table("Steps", STEP_COLUMNS, [_step(row) for row in rows if isinstance(row, StepRow)]),
        _table("Promises", CHECK_COLUMNS, [_check(row) for row in rows if isinstance(row, CheckRow)]),
        _table("Memory", MEMORY_COLUMNS, [_memory(row) for row in rows if isinstance(row, MemoryRow)]),
        _table("Parts", PART_COLUMNS, [_part(part) for part in parts]),
    ]
    return "\n".join([head, *tables])


STEP_COLUMNS = (
    "base", "px", "batch", "checkpointing", "strict", "compiled", "precision", "s/step (range)", "images/s", "setup s",
    "peak GB", "losses as plain",
)  # fmt: skip
CHECK_COLUMNS = ("check", "holds", "seconds", "")
MEMORY_COLUMNS = ("base", "job", "phase", "predicted MB", "measured MB", "error")
PART_COLUMNS = ("part", "status", "seconds", "")


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return f"## {title}\n\nNothing was measured.\n"
    lines = [columns, ["---"] * len(columns), *rows]
    return f"## {title}\n\n" + "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _step(row: StepRow) -> list[str]:
    cell = row.cell
    how = [
        row.base, str(cell.resolution), str(cell.batch), ANSWERS[cell.checkpointing].replace("*", ""),
        "yes" if cell.strict else "no", COMPILED[cell.compiled],
    ]  # fmt: skip
    if row.seconds is None:
        return [*how, "", row.error or "failed", "", "", "", ""]
    median, least, most = row.seconds
    figures = [f"{median:.3f} ({least:.3f} to {most:.3f})", f"{cell.batch / median:.1f}", f"{row.setup_seconds:.1f}"]
    peak = "" if row.peak_bytes is None else f"{row.peak_bytes / 1e9:.1f}"
    return [*how, row.precision, *figures, peak, ANSWERS[row.same_losses]]


def _check(row: CheckRow) -> list[str]:
    return [row.name, ANSWERS[row.ok] or "not asked", f"{row.seconds:.0f}", row.detail]


def _memory(row: MemoryRow) -> list[str]:
    m = row.measurement
    sizes = [f"{number / 1e6:,.0f}" for number in (m.predicted, m.measured)]
    return [row.base, row.job, m.phase, *sizes, f"{m.predicted / m.measured - 1:+.1%}" if m.measured else ""]


def _part(part: Ran) -> list[str]:
    return [part.name, part.status, f"{part.seconds:.0f}", part.error or ""]
