"""The training's reports while it runs, and what is requested of it. The runner's end is ``worker.device``."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from core.domain.artifacts import AdapterFormat
from core.domain.states import Phase


class Stop(Enum):
    SAVE = "save"  # pause or drain: leave a checkpoint first
    DROP = "drop"  # cancel: nothing of this attempt is needed


class Stopped(Exception):
    """The training ended by request. A checkpoint was saved if the request was Stop.SAVE."""


@dataclass(frozen=True)
class StepReport:
    step: int
    loss: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class SampleImage:
    prompt: str
    seed: int
    path: Path


@dataclass(frozen=True)
class SampleRequest:
    """Images that a client wants of the adapter as it is now. The n-th prompt is drawn with the seed plus n."""

    id: str
    prompts: tuple[str, ...]
    seed: int


Lend = Callable[[], AbstractContextManager[None]]
"""Within it a training's base is as if nothing were trained on it."""


class Observer(Protocol):
    def phase(self, phase: Phase) -> None: ...

    def unit(self, done: int, total: int) -> None:
        """One unit of progress within a phase without steps: a cached image, a drawn sample."""

    def alive(self) -> None:
        """A part of a unit that takes long."""

    def notice(self, message: str) -> None:
        """A message for the job's owner."""

    def step(self, report: StepReport) -> None: ...

    def validated(self, step: int, loss: float) -> None:
        """The held-out loss; step 0 is the base's."""

    def checkpoint(self, step: int, loss: float, path: Path) -> None: ...

    def samples(self, step: int, images: list[SampleImage], grid: Path) -> None: ...

    def adapter(self, step: int, files: Mapping[AdapterFormat, Path]) -> None:
        """A step's adapter, which is kept beside the one that the run ends with."""

    def next_sample_request(self) -> SampleRequest | None:
        """Each is given once; None if none waits."""

    def requested_samples(self, request_id: str, step: int, images: list[SampleImage]) -> None: ...

    def sample_request_failed(self, request_id: str, detail: str) -> None:
        """The training goes on."""

    def between_steps(self, lend: Lend) -> None:
        """Others may use the base now, within ``lend``."""

    def should_stop(self) -> Stop | None: ...


def raise_if_stopped(observer: Observer) -> None:
    """Between two units. Raises Stopped when the observer asks for it."""
    if observer.should_stop():
        raise Stopped


def heartbeat_or_stop(observer: Observer) -> None:
    """Between two parts of a unit that takes long; raises as ``raise_if_stopped`` does."""
    observer.alive()
    raise_if_stopped(observer)


@dataclass
class RecordingObserver:
    """The in-memory observer: remembers everything, and asks to stop after ``stop_at`` units or steps. ``requests``:
    step -> what a client requests before it ends."""

    stop_at: int | None = None
    stop: Stop = Stop.SAVE
    phases: list[Phase] = field(default_factory=list)
    units: int = 0
    heartbeats: int = 0
    notices: list[str] = field(default_factory=list)
    steps: list[StepReport] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)
    checkpoints: list[tuple[int, Path]] = field(default_factory=list)
    grids: list[tuple[int, list[SampleImage], Path]] = field(default_factory=list)
    adapters: list[tuple[int, Mapping[AdapterFormat, Path]]] = field(default_factory=list)
    borrow: Callable[[Lend], None] | None = None
    requests: dict[int, SampleRequest] = field(default_factory=dict)
    requested: list[tuple[str, int, list[SampleImage]]] = field(default_factory=list)
    failed_requests: list[tuple[str, str]] = field(default_factory=list)

    def phase(self, phase: Phase) -> None:
        self.phases.append(phase)

    def unit(self, done: int, total: int) -> None:
        assert 0 < done <= total
        self.units += 1

    def alive(self) -> None:
        self.heartbeats += 1

    def notice(self, message: str) -> None:
        self.notices.append(message)

    def step(self, report: StepReport) -> None:
        self.steps.append(report)

    def validated(self, step: int, loss: float) -> None:
        self.validations.append((step, loss))

    def checkpoint(self, step: int, loss: float, path: Path) -> None:
        self.checkpoints.append((step, path))

    def samples(self, step: int, images: list[SampleImage], grid: Path) -> None:
        self.grids.append((step, images, grid))

    def adapter(self, step: int, files: Mapping[AdapterFormat, Path]) -> None:
        self.adapters.append((step, files))

    def next_sample_request(self) -> SampleRequest | None:
        due = [step for step in self.requests if self.steps and step <= self.steps[-1].step]
        return self.requests.pop(due[0]) if due else None

    def requested_samples(self, request_id: str, step: int, images: list[SampleImage]) -> None:
        self.requested.append((request_id, step, images))

    def sample_request_failed(self, request_id: str, detail: str) -> None:
        self.failed_requests.append((request_id, detail))

    def between_steps(self, lend: Lend) -> None:
        if self.borrow is not None:
            self.borrow(lend)

    def should_stop(self) -> Stop | None:
        reached = self.stop_at is not None and self.units + len(self.steps) >= self.stop_at
        return self.stop if reached else None
