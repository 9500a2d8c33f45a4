"""What is done to the service, and when: every process in every phase in which its death could matter."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.proxy import STORAGE_FAULTS
from tests.chaos.scene import DRAWING, JOB_PHASES
from tests.chaos.stack import Stack, send_signal

SERVING = (*JOB_PHASES, "upload", "post")
ALL = (*JOB_PHASES, "upload", "post", "validating")

# Left out: workers that train do nothing for uploads, posts and validations; the cpu worker does nothing for jobs; the
# steward and the broker's contents have no part in an upload, nor storage in POST /jobs.
FAULTS: dict[str, tuple[str, ...]] = {
    "api: kill": SERVING,
    "steward: kill": (*JOB_PHASES, "validating"),
    "cpu worker: kill": ("validating",),
    "cpu worker's child: kill": ("validating",),
    "cpu worker: freeze": ("validating",),
    "train worker: kill": JOB_PHASES,
    "train worker's child: kill": JOB_PHASES,
    "train worker: freeze": JOB_PHASES,
    "trainer: kill": JOB_PHASES,
    "trainer: freeze": JOB_PHASES,
    "broker: flush": (*JOB_PHASES, "post", "validating"),
    "broker: kill": (*JOB_PHASES, "post", "validating"),
    "postgres: kill": ALL,
    "postgres: stop": ALL,
    "storage: fault": (*JOB_PHASES, "upload", "validating"),
}
ENDS_ATTEMPT = ("train worker: kill", "train worker's child: kill", "train worker: freeze", "trainer: kill")
"""After these the job is another attempt's."""
KILLS = ("train worker: kill", "train worker's child: kill", "trainer: kill")


@dataclass(frozen=True)
class Cell:
    kind: str
    phase: str


CELLS = tuple(Cell(kind, phase) for kind, phases in FAULTS.items() for phase in phases)


def plan_faults(seed: int, count: int) -> list[Cell]:
    """Every cell in a random order, and again, until there are ``count``."""
    rng, plan = random.Random(seed), list[Cell]()
    while len(plan) < count:
        plan += rng.sample(CELLS, len(CELLS))
    return plan[:count]


def plan_kills(seed: int, count: int) -> list[Cell]:
    """Of what trains and draws: every other one while a generation is drawn beside a training."""
    cells = [Cell(KILLS[n % 3], DRAWING if n % 2 == 0 else JOB_PHASES[n // 2 % len(JOB_PHASES)]) for n in range(count)]
    return random.Random(seed).sample(cells, count)


@dataclass
class Fault:
    """One that was done. ``phase`` is where it truly fell; the job is the one that was aimed at."""

    kind: str
    phase: str
    at: float
    detail: str = ""
    job_id: str | None = None
    attempt: int = 0
    verified: bool = False


@dataclass
class Striker:
    """Does it, and undoes it later: ``heal`` is to be called often."""

    stack: Stack
    rng: random.Random
    frozen_seconds: float
    _cures: list[tuple[float, str, Callable[[], object]]] = field(default_factory=list)
    _num_storage_faults: int = 0

    def is_ill(self, what: str) -> bool:
        return any(name == what for _, name, _ in self._cures)

    def heal(self, *, all_of_it: bool = False) -> None:
        due = [cure for cure in self._cures if all_of_it or cure[0] <= time.monotonic()]
        self._cures = [cure for cure in self._cures if cure not in due]
        for _, _, undo in due:
            undo()

    def strike(self, kind: str, slot: int) -> Fault | None:
        """None when there was nobody to strike. ``Fault.at`` is when it was done, not when all is up again."""
        process, _, how = kind.partition(": ")
        match process, how:
            case "postgres", _:
                return self._strike_postgres(kind, how)
            case "broker", _:
                return self._strike_broker(kind, how)
            case "storage", _:
                return self._strike_storage(kind)
            case "train worker" | "trainer" | "train worker's child", _:
                return self._strike_pids(kind, how, self._pids_of(process, slot), f"slot {slot}")
            case _:
                return self._strike_pids(kind, how, self._pids_of(process, slot), process)

    def _pids_of(self, process: str, slot: int) -> list[int | None]:
        stack = self.stack
        match process:
            case "api":
                return [stack.pid_of("api")]
            case "steward":
                return [stack.pid_of(self._find_leader())]
            case "cpu worker":
                return [stack.pid_of("cpu"), stack.child_of("cpu")]
            case "cpu worker's child":
                return [stack.child_of("cpu")]
            case "train worker":
                return [stack.pid_of(f"train-{slot}"), stack.child_of(f"train-{slot}")]
            case "train worker's child":
                return [stack.child_of(f"train-{slot}")]
            case "trainer":
                return [stack.trainer_of(slot)]
        raise AssertionError(process)

    def _find_leader(self) -> str:
        names = [name for name in self.stack.kept if name.startswith("steward")]
        for name in names:
            said = [line for line in self.stack.tail(name, 200).splitlines() if "steward leads" in line]
            if said and "this steward leads" in said[-1]:
                return name
        return names[0]

    def _strike_pids(self, kind: str, how: str, pids: list[int | None], what: str) -> Fault | None:
        """A kill goes to the first alone: the rest has to notice. All are frozen."""
        if pids[0] is None or self.is_ill(what):
            return None
        if how == "kill":
            at = time.time()
            return Fault(kind, "", at) if send_signal(pids[0], signal.SIGKILL) else None
        found = [pid for pid in pids if pid is not None]
        at = time.time()
        if sum(send_signal(pid, signal.SIGSTOP) for pid in found) < len(found):
            return None
        thaw_at = time.monotonic() + self.frozen_seconds
        self._cures.append((thaw_at, what, lambda: [send_signal(pid, signal.SIGCONT) for pid in found]))
        return Fault(kind, "", at, f"{self.frozen_seconds:.0f} s")

    def _strike_postgres(self, kind: str, how: str) -> Fault:
        at, postgres = time.time(), self.stack.postgres
        if how == "kill":
            postgres.kill()
        else:
            postgres.process.stop()
        self.stack.keep_for(self.rng.uniform(0, 2))
        postgres.start()
        return Fault(kind, "", at, f"away for {time.time() - at:.1f} s")

    def _strike_broker(self, kind: str, how: str) -> Fault:
        at, valkey = time.time(), self.stack.valkey
        if how == "flush":
            self.stack.flush_broker()
            return Fault(kind, "", at)
        valkey.kill()
        self.stack.keep_for(self.rng.uniform(0, 2))
        valkey.start()
        return Fault(kind, "", at, f"away for {time.time() - at:.1f} s")

    def _strike_storage(self, kind: str) -> Fault | None:
        if self.is_ill("storage"):
            return None
        fault = STORAGE_FAULTS[self._num_storage_faults % len(STORAGE_FAULTS)]
        self._num_storage_faults += 1
        seconds = self.rng.uniform(2, 6)
        at, proxy = time.time(), self.stack.proxy
        proxy.set(fault)
        self._cures.append((time.monotonic() + seconds, "storage", lambda: proxy.set(None)))
        return Fault(kind, "", at, f"{fault}, {seconds:.1f} s")
