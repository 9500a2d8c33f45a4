"""What a run found, as Markdown between two markers of a document."""

import math
import platform
import statistics
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tests.chaos.audit import Audit
from tests.chaos.faults import ENDS_ATTEMPT, FAULTS, Fault
from tests.chaos.history import Event
from tests.chaos.scene import JOB_PHASES, SERVICE_PHASES

PHASES = (*JOB_PHASES, *SERVICE_PHASES)


def percentile(values: Sequence[float], share: float) -> float:
    """By nearest rank: a value that was measured."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def measure_recovery(faults: Iterable[Fault], events: Iterable[Event]) -> dict[str, list[tuple[Fault, float, float]]]:
    """Kind -> (fault, seconds until its job was queued again, until it was worked on again), for what ends attempts.

    A job that was asked to pause or cancel meanwhile, or that ended, has no such times.
    """
    histories: dict[str, list[Event]] = {}
    for event in events:
        histories.setdefault(event.job_id, []).append(event)
    found: dict[str, list[tuple[Fault, float, float]]] = {}
    for fault in faults:
        if fault.kind not in ENDS_ATTEMPT or fault.job_id is None:
            continue
        later = [event for event in histories.get(fault.job_id, []) if event.at > fault.at]
        queued = next((event for event in later if event.type == "job.queued"), None)
        running = next((event for event in later if event.type == "job.running"), None)
        if queued is None or running is None or queued.attempt != fault.attempt or running.seq != queued.seq + 1:
            continue
        if any(event.type in {"job.pausing", "job.paused"} and event.seq < queued.seq for event in later):
            continue
        found.setdefault(fault.kind, []).append((fault, queued.at - fault.at, running.at - fault.at))
    return found


def draw_matrix(faults: Sequence[Fault]) -> list[str]:
    counts = Counter((fault.kind, fault.phase) for fault in faults)
    lines = [f"| fault | {' | '.join(PHASES)} |", f"| --- |{' ---: |' * len(PHASES)}"]
    for kind, sensible in FAULTS.items():
        cells = [str(counts[kind, phase]) if phase in sensible or counts[kind, phase] else "–" for phase in PHASES]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return lines


def find_empty_cells(faults: Sequence[Fault]) -> list[tuple[str, str]]:
    struck = {(fault.kind, fault.phase) for fault in faults}
    return [(kind, phase) for kind, phases in FAULTS.items() for phase in phases if (kind, phase) not in struck]


def draw_recovery(faults: Sequence[Fault], events: Sequence[Event]) -> list[str]:
    lines = [
        "| struck | times | queued again: median, p99 | worked on again: median, p99 |",
        "| --- | ---: | ---: | ---: |",
    ]
    recoveries = measure_recovery(faults, events)
    recoveries["all"] = [row for found in recoveries.values() for row in found]
    for kind, rows in recoveries.items():
        if rows:
            times = [[queued for _, queued, _ in rows], [running for _, _, running in rows]]
            shown = [f"{statistics.median(values):.1f} s, {percentile(values, 0.99):.1f} s" for values in times]
            lines.append(f"| {kind} | {len(rows)} | {' | '.join(shown)} |")
    return lines


def draw_verdict(audit: Audit) -> list[str]:
    broken = Counter(violation.promise for violation in audit.violations)
    lost = sum(number for promise, number in broken.items() if promise.startswith("lost"))
    doubled = sum(number for promise, number in broken.items() if promise.startswith("doubled"))
    ended = Counter(outcome.status for outcome in audit.outcomes)
    attempts = [outcome.attempt for outcome in audit.outcomes]
    different = {job_id for job_id, _ in audit.different}
    ends = ", ".join(f"{number} {status}" for status, number in sorted(ended.items()))
    return [
        f"- Jobs: {len(audit.outcomes)} ({ends}), the undisturbed ones among them.",
        f"- Attempts: {sum(attempts)}, at most {max(attempts)} for one job; {audit.num_events} events.",
        f"- Lost: {lost}. Doubled: {doubled}. Other broken promises: {sum(broken.values()) - lost - doubled}.",
        f"- Files that rows name: {audit.num_files}, whole in the store: "
        f"{audit.num_files - sum(broken[kind] for kind in ('missing file', 'damaged file'))}.",
        f"- Byte-identical to the undisturbed run (both adapters, samples, grids, last checkpoint): "
        f"{audit.num_compared - len(different)} of {audit.num_compared} succeeded jobs.",
    ]


def describe_run(command: str, seed: int, seconds: float) -> list[str]:
    machine = f"{_name_processor()}, {psutil.cpu_count()} cores, {round(psutil.virtual_memory().total / 2**30)} GiB"
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return [f"`{command}`, seed {seed}, {when}, {seconds / 60:.0f} minutes on {machine}.", ""]


def _name_processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def write_between_markers(document: Path, name: str, lines: Sequence[str]) -> None:
    """Raises ValueError when the document has no such markers."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = document.read_text()
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{document} has no markers of {name!r}")
    document.write_text("".join([head, begin, "\n", "\n".join(lines).strip(), "\n", end, tail]))


def list_violations(audit: Audit) -> list[str]:
    broken = [f"- {violation.promise}: {violation.job_id} {violation.detail}" for violation in audit.violations]
    return [*broken, *(f"- other bytes: {job_id} {what}" for job_id, what in audit.different)]


def count_outages(outages: Mapping[str, int]) -> str:
    return ", ".join(f"{number} x {why}" for why, number in sorted(outages.items())) or "none"


def draw_kills(faults: Sequence[Fault]) -> list[str]:
    counts = Counter(f"{fault.kind.partition(':')[0]} ({fault.phase})" for fault in faults)
    shown = ", ".join(f"{number} x {what}" for what, number in sorted(counts.items()))
    return textwrap.wrap(f"- Kills: {len(faults)}: {shown}.", 128, subsequent_indent="  ", break_on_hyphens=False)
