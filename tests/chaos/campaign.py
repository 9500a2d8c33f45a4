"""A chaos run: clients post, pause and cancel; faults strike where the plan wants them; all of it until everything
that was accepted has ended."""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from tests.chaos.clients import Ledger, PostedJob, Stopped, StubbornClient
from tests.chaos.faults import ENDS_ATTEMPT, Cell, Fault, Striker
from tests.chaos.generations import Body
from tests.chaos.scene import DRAWING, Scene, Work, look, phase_at
from tests.chaos.specs import SPECS, pictures
from tests.chaos.stack import TRAIN_WORKERS, Stack

REQUESTS = ("upload", "post")
MAX_WAITING, MAX_UNDRAWN = 3, 10
LOOK_SECONDS = 0.05
MAX_FAILURES = 2
"""A job that has failed so often without a new checkpoint is spared: the third such death is poison, by design."""
LAST_SECONDS = 900.0


@dataclass(frozen=True)
class Plan:
    """``cells``: the faults in their order. ``gap_seconds``: between two, drawn from the seed. ``bodies``: of
    the generations, by their shape."""

    seed: int
    cells: Sequence[Cell]
    num_jobs: int
    specs: tuple[str, ...] = tuple(SPECS)
    gap_seconds: tuple[float, float] = (0.2, 1.5)
    cancel_share: float = 0.08
    pause_share: float = 0.2
    limit_seconds: float = 3600.0
    num_generations: int = 0
    bodies: Mapping[str, Body] = field(default_factory=dict)


@dataclass
class Campaign:
    stack: Stack
    plan: Plan
    dataset_id: str
    ledger: Ledger = field(default_factory=Ledger)
    faults: list[Fault] = field(default_factory=list)
    say: Callable[[str], None] = print

    def __post_init__(self) -> None:
        self._rng = random.Random(self.plan.seed)
        self._left = list(self.plan.cells)
        self._striker = Striker(self.stack, self._rng, frozen_seconds=self.stack.timers.lease + 3)
        self._next_at, self._look_at = 0.0, 0.0
        self._scene: Scene | None = None
        self._spared: set[tuple[str, int]] = set()
        self._stop, self._struck_out = threading.Event(), threading.Event()
        self._errors: list[BaseException] = []
        self._began = time.monotonic()
        self._checked: set[str] = set()

    def run(self) -> None:
        """Raises what a client met that no client should, and TimeoutError when jobs do not end."""
        threads = [
            threading.Thread(target=self._guard, args=(work,)) for work in (self._post, self._upload, self._generate)
        ]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                self._tick()
                if self._is_struck_out():
                    self._struck_out.set()
            self._striker.heal(all_of_it=True)
            self._await_the_end()
        finally:
            self._stop.set()
            self._struck_out.set()
            self._striker.heal(all_of_it=True)
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.1)
                    self.stack.keep()

    # --- striking ---

    def _is_struck_out(self) -> bool:
        if time.monotonic() - self._began > self.plan.limit_seconds:
            self._left.clear()
        return not self._left and all(fault.verified for fault in self.faults)

    def _tick(self) -> None:
        """What is going on is looked up right before it is aimed at; requests are seen without that."""
        if self._errors:
            raise self._errors[0]
        self.stack.keep()
        self._striker.heal()
        chances: dict[str, list[Work]] = {name: [] for name in list(self.ledger.busy)}
        if time.monotonic() >= self._look_at:
            self._scene = self._look()
            self._look_at = time.monotonic() + LOOK_SECONDS
            self._verify()
            chances |= self._find_chances(self._scene) if self._scene else {}
        if chances and not self._is_ahead() and time.monotonic() >= self._next_at:
            self._aim(chances)
        time.sleep(0.01)

    def _is_ahead(self) -> bool:
        """The faults are spread over the jobs that are posted one after the other."""
        share = len(self.ledger.jobs) / self.plan.num_jobs
        return len(self.faults) >= share * len(self.plan.cells)

    def _look(self) -> Scene | None:
        with contextlib.suppress(SQLAlchemyError), self.stack.sessions() as session:
            return look(session)
        return None

    def _aim(self, chances: dict[str, list[Work]]) -> None:
        """The first fault of the plan that fits what is going on. At times none, so that not only the starts of
        phases are met."""
        for index, cell in enumerate(self._left):
            if cell.phase in chances and self._rng.random() < 0.3:
                works = chances[cell.phase]
                work = self._rng.choice(works) if works else None
                if self._may_strike(cell, work) and self._strike(cell, work):
                    del self._left[index]
                    self._next_at = time.monotonic() + self._rng.uniform(*self.plan.gap_seconds)
                    return

    def _find_chances(self, scene: Scene) -> dict[str, list[Work]]:
        """Phase -> the jobs that are in it; none for datasets."""
        chances: dict[str, list[Work]] = {}
        if scene.validating is not None:
            chances["validating"] = []
        for work in scene.works:
            fresh = (work.job_id, work.attempt) not in self._spared and work.status == "running"
            if fresh and self._is_worked_on(work):
                chances.setdefault(work.phase, []).append(work)
                idle = TRAIN_WORKERS - len(scene.works)  # each of these may draw one
                if scene.num_drawing > idle and work.phase == "training":
                    chances.setdefault(DRAWING, []).append(work)
        return chances

    def _is_worked_on(self, work: Work) -> bool:
        """Not one whose worker has died already, or is frozen: nothing could befall it."""
        if self._striker.is_ill(f"slot {work.slot}"):
            return False
        process = (
            self.stack.trainer_of if work.phase != "loading" else lambda slot: self.stack.child_of(f"train-{slot}")
        )
        return process(work.slot) is not None

    def _may_strike(self, cell: Cell, work: Work | None) -> bool:
        if cell.kind.startswith("storage"):
            return all(work.failures < MAX_FAILURES for work in (self._scene.works if self._scene else ()))
        return cell.kind not in ENDS_ATTEMPT or (work is not None and work.failures < MAX_FAILURES)

    def _strike(self, cell: Cell, work: Work | None) -> bool:
        """False when the moment had passed."""
        if cell.phase in REQUESTS and cell.phase not in self.ledger.busy:
            return False
        fault = self._striker.strike(cell.kind, work.slot if work else 0)
        if fault is None:
            return False
        fault.phase = cell.phase
        if work is not None:
            fault.job_id, fault.attempt = work.job_id, work.attempt
            if cell.kind in ENDS_ATTEMPT:
                self._spared.add((work.job_id, work.attempt))
        else:
            fault.verified = True
        self.faults.append(fault)
        self.say(f"{len(self.faults):4d} {fault.kind} in {fault.phase} {fault.detail} ({len(self._left) - 1} to come)")
        self._scene, self._look_at = None, 0.0
        return True

    def _verify(self) -> None:
        """Corrects the phase of faults by what was written before they struck; what was missed is planned again."""
        for fault in [fault for fault in self.faults if not fault.verified and fault.job_id is not None]:
            with contextlib.suppress(SQLAlchemyError), self.stack.sessions() as session:
                truth = phase_at(session, str(fault.job_id), fault.attempt, fault.at)
                fault.verified = True
                if truth != ("training" if fault.phase == DRAWING else fault.phase):
                    self.say(f"     that fell into {truth}, not {fault.phase}")
                    self._left.append(Cell(fault.kind, fault.phase))
                    fault.phase = truth

    # --- clients ---

    def _guard(self, work: Callable[[StubbornClient, random.Random], None]) -> None:
        client = self._open_client()
        try:
            work(client, random.Random(f"{self.plan.seed} {work.__name__}"))
        except Stopped:
            pass
        except BaseException as error:
            self._errors.append(error)
        finally:
            client.close()

    def _open_client(self) -> StubbornClient:
        return StubbornClient(self.stack.url, self.stack.api_key, self.ledger, self._stop)

    def _post(self, client: StubbornClient, rng: random.Random) -> None:
        """As many jobs as planned at least, and more until all faults have struck."""
        number = 0
        while number < self.plan.num_jobs or not self._struck_out.is_set():
            scene = self._scene
            if scene is None or scene.num_waiting >= MAX_WAITING:
                if self._stop.wait(0.1):
                    raise Stopped
                continue
            spec = self.plan.specs[number % len(self.plan.specs)]
            key, again = f"chaos-{self.plan.seed}-{number}", rng.random() < 0.3
            posted = client.post_job(key, spec, self.dataset_id, again=again)
            number, self._scene = number + 1, None  # the next one waits until this one was seen
            self._request_a_stop(posted, rng)

    def _request_a_stop(self, posted: PostedJob, rng: random.Random) -> None:
        draw, share = rng.random(), self.plan.cancel_share
        if draw < share:
            request = self._cancel
        elif draw < share + self.plan.pause_share:
            request = self._pause
        else:
            return
        delay = rng.uniform(2, 40)
        threading.Thread(
            target=self._guard, args=(lambda client, _: request(client, posted, delay),), daemon=True
        ).start()

    def _cancel(self, client: StubbornClient, posted: PostedJob, delay: float) -> None:
        if not self._stop.wait(delay):
            client.request_status(posted, "cancel")

    def _pause(self, client: StubbornClient, posted: PostedJob, delay: float) -> None:
        if self._stop.wait(delay) or client.request_status(posted, "pause").answer is None:
            return
        while client.get(f"/jobs/{posted.job_id}")["status"] == "pausing":
            if self._stop.wait(0.3):
                return
        client.request_status(posted, "resume")

    def _upload(self, client: StubbornClient, rng: random.Random) -> None:
        while not self._struck_out.is_set():
            client.upload(pictures(rng.choice((4, 8, 12))), drip=True)
            self._struck_out.wait(rng.uniform(0.5, 3))

    def _generate(self, client: StubbornClient, rng: random.Random) -> None:
        """As many as planned at least, spread over the jobs, and more until all faults have struck."""
        shapes, number, planned = list(self.plan.bodies), 0, self.plan.num_generations
        while number < planned or (planned and not self._struck_out.is_set()):
            scene, share = self._scene, len(self.ledger.jobs) / self.plan.num_jobs
            if scene is None or scene.num_undrawn >= MAX_UNDRAWN or number >= share * planned:
                if self._stop.wait(0.1):
                    raise Stopped
                continue
            shape = shapes[number % len(shapes)]
            client.post_generation(shape, self.plan.bodies[shape])
            number += 1
            if self._stop.wait(rng.uniform(0, 2)):
                raise Stopped

    # --- the end ---

    def _await_the_end(self) -> None:
        """Every job that was answered with 201, and every dataset, to its end; paused ones are resumed."""
        client, deadline = self._open_client(), time.monotonic() + LAST_SECONDS
        try:
            while open_ends := self._count_open(client):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"still open after {LAST_SECONDS:.0f} s: {dict(open_ends)}")
                self.stack.keep_for(1)
        finally:
            client.close()

    def _count_open(self, client: StubbornClient) -> Counter[str]:
        """Asked of the rows: a job that no client knows of is awaited too."""
        states: Counter[str] = Counter()
        for posted in self.ledger.datasets:
            if posted.dataset_id not in self._checked:
                status = client.get(f"/datasets/{posted.dataset_id}")["status"]
                if status == "validating":
                    states["datasets"] += 1
                else:
                    self._checked.add(posted.dataset_id)
        scene = self._look()
        states["generations"] = 0 if scene is None else scene.num_undrawn
        states["jobs"] = 1 if scene is None else scene.num_unfinished
        return +states
