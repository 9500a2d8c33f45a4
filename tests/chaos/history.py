"""The history checker: from what the service wrote down and what its clients were answered, every broken promise.

A pure function; what it is given is made up in its own tests, and read from a stack by ``audit``.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

FINAL = {"job.succeeded": "succeeded", "job.failed": "failed", "job.canceled": "canceled"}
GIVES_BACK = {"job.queued", "job.paused", *FINAL}


@dataclass(frozen=True)
class Event:
    """A row of the append-only table. ``at``: seconds since the epoch."""

    job_id: str
    seq: int
    type: str
    attempt: int
    at: float
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """A job's row at the end."""

    job_id: str
    status: str
    attempt: int


@dataclass(frozen=True)
class Promise:
    """What a client was answered: the ids that its 201s named, and whether a cancel was answered with 202."""

    job_ids: tuple[str, ...]
    cancel_accepted: bool = False


@dataclass(frozen=True)
class StoredFile:
    """A file that a row names, and what lies there: None when nothing does."""

    job_id: str
    key: str
    sha256: str
    found_sha256: str | None


@dataclass(frozen=True)
class Violation:
    promise: str
    job_id: str
    detail: str


def check_history(
    promises: Iterable[Promise],
    outcomes: Iterable[Outcome],
    events: Iterable[Event],
    files: Iterable[StoredFile] = (),
) -> list[Violation]:
    rows = {outcome.job_id: outcome for outcome in outcomes}
    histories: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        histories[event.job_id].append(event)
    found = _check_promises(promises, rows)
    for job_id, history in histories.items():
        history.sort(key=lambda event: event.seq)
        found += _check_order(job_id, history)
        found += _check_attempts(job_id, history)
        found += _check_end(job_id, history, rows.get(job_id))
    found += [Violation("lost", job_id, "has no history") for job_id in rows.keys() - histories.keys()]
    return found + _check_slots(histories) + _check_files(files, rows)


def _check_promises(promises: Iterable[Promise], rows: Mapping[str, Outcome]) -> list[Violation]:
    found = []
    for promise in promises:
        first = promise.job_ids[0]
        if len(set(promise.job_ids)) > 1:
            found.append(Violation("doubled job", first, f"one key was answered with {sorted(set(promise.job_ids))}"))
        for job_id in set(promise.job_ids):
            row = rows.get(job_id)
            if row is None:
                found.append(Violation("lost", job_id, "was answered with 201 and has no row"))
            elif row.status not in FINAL.values():
                found.append(Violation("lost", job_id, f"was answered with 201 and is still {row.status}"))
            elif promise.cancel_accepted and row.status == "succeeded":
                found.append(Violation("canceled job succeeded", job_id, "its cancel was answered with 202"))
    return found


def _check_order(job_id: str, history: Sequence[Event]) -> list[Violation]:
    seqs = [event.seq for event in history]
    found = []
    if seqs != list(range(1, len(seqs) + 1)):
        found.append(Violation("gap", job_id, f"its events are numbered {seqs}"))
    if history[0].type != "job.queued":
        found.append(Violation("gap", job_id, f"its history begins with {history[0].type}"))
    return found


def _check_attempts(job_id: str, history: Sequence[Event]) -> list[Violation]:
    """Each claim is the next attempt, of a job that nobody holds; nothing is written by an older one."""
    found, claimed, held = [], 0, False
    for event in history:
        if event.type == "job.running":
            if event.attempt != claimed + 1:
                found.append(Violation("attempts", job_id, f"attempt {event.attempt} was claimed after {claimed}"))
            if held:
                found.append(Violation("overlap", job_id, f"attempt {event.attempt} began while {claimed} held it"))
            claimed, held = max(claimed, event.attempt), True
            continue
        if event.attempt != claimed:
            detail = f"{event.type} (seq {event.seq}) was written by attempt {event.attempt} while {claimed} was newest"
            found.append(Violation("late write", job_id, detail))
        if event.type in GIVES_BACK:
            held = False
    return found


def _check_end(job_id: str, history: Sequence[Event], row: Outcome | None) -> list[Violation]:
    found = []
    finals = [event for event in history if event.type in FINAL]
    if len([event for event in finals if event.type == "job.succeeded"]) > 1:
        found.append(Violation("doubled commit", job_id, f"{len(finals)} final events"))
    elif len(finals) > 1:
        found.append(Violation("doubled end", job_id, ", ".join(event.type for event in finals)))
    if finals and (late := [event.type for event in history if event.seq > finals[0].seq]):
        found.append(Violation("event after the end", job_id, ", ".join(late)))
    if row is None:
        found.append(Violation("lost", job_id, "has a history and no row"))
    elif [row.status] != [FINAL[event.type] for event in finals[-1:]] and (finals or row.status in FINAL.values()):
        found.append(Violation("end", job_id, f"its row says {row.status}, its history {[e.type for e in finals]}"))
    if row is not None and row.attempt != max((event.attempt for event in history), default=0):
        found.append(Violation("attempts", job_id, f"its row says attempt {row.attempt}, its history another"))
    asked = next((event.seq for event in history if event.type == "job.canceling"), None)
    if asked is not None and any(event.type == "job.succeeded" and event.seq > asked for event in finals):
        found.append(Violation("canceled job succeeded", job_id, "job.succeeded follows job.canceling"))
    return found


def _check_slots(histories: Mapping[str, Sequence[Event]]) -> list[Violation]:
    """One holder per device slot at a time."""
    holdings: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for job_id, history in histories.items():
        for start, end, slot in _holdings(history):
            holdings[slot].append((start, end, job_id))
    found = []
    for slot, held in holdings.items():
        for (_, end, one), (start, _, other) in pairwise(sorted(held)):
            if start < end:
                found.append(Violation("shared slot", other, f"took {slot} {end - start:.3f} s before {one} left it"))
    return found


def _holdings(history: Sequence[Event]) -> Iterable[tuple[float, float, str]]:
    taken: Event | None = None
    for event in history:
        if event.type == "job.running":
            taken = event
        elif event.type in GIVES_BACK and taken is not None:
            yield taken.at, event.at, str(taken.data["slot"])
            taken = None
    if taken is not None:
        yield taken.at, float("inf"), str(taken.data["slot"])


def _check_files(files: Iterable[StoredFile], rows: Mapping[str, Outcome]) -> list[Violation]:
    found = []
    for file in files:
        if file.found_sha256 is None:
            found.append(Violation("missing file", file.job_id, file.key))
        elif file.found_sha256 != file.sha256:
            found.append(Violation("damaged file", file.job_id, file.key))
        if file.job_id not in rows:
            found.append(Violation("stray file", file.job_id, f"{file.key} is of no job"))
    return found
