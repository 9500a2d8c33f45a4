"""Cancels and pauses, aimed at every phase: how soon they are granted, and how soon the device slot is free."""

import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select

from core.db.tables import Job
from core.domain.states import JobStatus
from tests.chaos.clients import Ledger, PostedJob, StubbornClient
from tests.chaos.history import GIVES_BACK, Event
from tests.chaos.report import percentile
from tests.chaos.scene import JOB_PHASES, Work, look, phase_at
from tests.chaos.specs import SPECS
from tests.chaos.stack import Stack

MAX_WAITING = 4
LOOK_SECONDS = 0.03
LAST_SECONDS = 900.0


@dataclass(frozen=True)
class Aim:
    """``kind``: cancel or pause."""

    kind: str
    phase: str


@dataclass
class Asked:
    kind: str
    phase: str
    posted: PostedJob
    attempt: int
    at: float


@dataclass(frozen=True)
class Granted:
    """``end``: what became of the job by it. ``seconds``: until then; ``slot_seconds``: until another job began on
    its slot, None when there was none to begin."""

    kind: str
    phase: str
    job_id: str
    end: str
    seconds: float
    slot_seconds: float | None


def plan_stops(seed: int, num_cancels: int, num_pauses: int) -> list[Aim]:
    aims = [Aim("cancel", JOB_PHASES[n % len(JOB_PHASES)]) for n in range(num_cancels)]
    aims += [Aim("pause", JOB_PHASES[n % len(JOB_PHASES)]) for n in range(num_pauses)]
    random.Random(seed).shuffle(aims)
    return aims


@dataclass
class StopRequests:
    """Every job has at most one stop request; a paused one is resumed at once, and runs to its end."""

    stack: Stack
    dataset_id: str
    aims: list[Aim]
    say: Callable[[str], None] = print
    ledger: Ledger = field(default_factory=Ledger)
    asked: list[Asked] = field(default_factory=list)

    def run(self) -> None:
        self._rng = random.Random(len(self.aims))
        self._by_id: dict[str, PostedJob] = {}
        self._client = StubbornClient(self.stack.url, self.stack.api_key, self.ledger, threading.Event())
        try:
            self._work_off(list(self.aims))
            self._await_the_end()
        finally:
            self._client.close()

    def _work_off(self, left: list[Aim]) -> None:
        done: set[str] = set()
        while left:
            self.stack.keep()
            with self.stack.sessions() as session:
                scene = look(session)
            if scene.num_waiting < MAX_WAITING:
                self._post()
            for work in scene.works:
                if work.job_id in done or work.status != "running" or work.job_id not in self._by_id:
                    continue
                if (aim := self._choose(left, work)) is not None:
                    done.add(work.job_id)
                    if self._ask(aim, work):
                        left.remove(aim)
            self._resume()
            time.sleep(LOOK_SECONDS)

    def _choose(self, left: Sequence[Aim], work: Work) -> Aim | None:
        """At times none, so that not only the starts of phases are met."""
        fitting = [aim for aim in left if aim.phase == work.phase]
        return self._rng.choice(fitting) if fitting and self._rng.random() < 0.2 else None

    def _post(self) -> None:
        number = len(self._by_id)
        posted = self._client.post_job(f"stops-{number}", tuple(SPECS)[number % len(SPECS)], self.dataset_id)
        self._by_id[posted.job_id] = posted

    def _ask(self, aim: Aim, work: Work) -> bool:
        """False when it came too late, or into another phase."""
        posted = self._by_id[work.job_id]
        request = self._client.request_status(posted, aim.kind)
        if request.answer is None:
            return False
        with self.stack.sessions() as session:
            phase = phase_at(session, work.job_id, work.attempt, request.sent_at)
        self.asked.append(Asked(aim.kind, phase, posted, work.attempt, request.sent_at))
        self.say(f"{len(self.asked):4d} {aim.kind} in {phase}")
        return phase == aim.phase

    def _resume(self) -> None:
        with self.stack.sessions() as session:
            paused = set(session.execute(select(Job.id).where(Job.status == JobStatus.PAUSED)).scalars())
        for posted in (self._by_id[job_id] for job_id in paused):
            self._client.request_status(posted, "resume")

    def _await_the_end(self) -> None:
        deadline = time.monotonic() + LAST_SECONDS
        while True:
            self._resume()
            with self.stack.sessions() as session:
                if not look(session).num_unfinished:
                    return
            if time.monotonic() > deadline:
                raise TimeoutError("some jobs do not end")
            self.stack.keep_for(0.5)

    def measure(self, events: Sequence[Event]) -> list[Granted]:
        starts: dict[str, list[float]] = {}
        for event in events:
            if event.type == "job.running":
                starts.setdefault(str(event.data["slot"]), []).append(event.at)
        return [_measure(asked, [e for e in events if e.job_id == asked.posted.job_id], starts) for asked in self.asked]


def _measure(asked: Asked, history: Sequence[Event], starts: dict[str, list[float]]) -> Granted:
    end = next(e for e in history if e.at > asked.at and e.type in GIVES_BACK)
    slot = next(str(e.data["slot"]) for e in history if e.type == "job.running" and e.attempt == asked.attempt)
    following = min((at for at in starts[slot] if at > end.at), default=None)
    seconds = end.at - asked.at
    return Granted(
        asked.kind, asked.phase, end.job_id, end.type.removeprefix("job."), seconds,
        None if following is None else following - asked.at,
    )  # fmt: skip


def draw_stops(granted: Sequence[Granted]) -> list[str]:
    lines = [
        "| request | phase | times | ended first | granted: median, max | another job on the slot: median, max |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for kind in ("cancel", "pause"):
        for phase in (*JOB_PHASES, None):
            rows = [one for one in granted if one.kind == kind and phase in (None, one.phase)]
            if rows:
                first = sum(one.end in {"succeeded", "failed"} for one in rows)
                free = [one.slot_seconds for one in rows if one.slot_seconds is not None]
                lines.append(
                    f"| {kind} | {phase or 'all'} | {len(rows)} | {first} | {_spread([one.seconds for one in rows])} "
                    f"| {_spread(free)} |"
                )
    return lines


def _spread(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.1f} s, {percentile(seconds, 1):.1f} s" if seconds else "–"
