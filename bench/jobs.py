"""Whole jobs in a real trainer process, as a worker sends them, with the time of each phase."""

import os
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.domain.ids import new_id
from core.domain.plan import TrainPlan
from core.model_folders import read_card
from worker.device.trainer import TrainerDied, TrainerHandle, TrainerRun
from worker.device.wire import (
    CheckpointSaved,
    Failed,
    Finished,
    PhaseEntered,
    RunReport,
    RuntimeChosen,
    StepDone,
    Train,
)

STARTING, LOADING = "starting", "loading"
"""Until the trainer has chosen its runtime (a new process imports torch first), and until it has the base."""
PROOF = "exporting and proof"


class JobFailed(Exception):
    """The trainer reported a failure, or the time was up."""


@dataclass
class JobRun:
    """What a job reported, and when. Seconds; ``phases`` adds up to the whole of them."""

    phases: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    step_seconds: list[float] = field(default_factory=list)
    checkpoints: list[tuple[int, Path]] = field(default_factory=list)
    runtime: Mapping[str, Any] = field(default_factory=dict)
    warm: bool = False
    finished: Finished | None = None

    @property
    def seconds(self) -> float:
        return sum(self.phases.values())

    @property
    def seconds_per_step(self) -> float:
        """The median, without the first step, which includes the setup."""
        return statistics.median(self.step_seconds[1:] or self.step_seconds)

    @property
    def seconds_beside_steps(self) -> float:
        return self.seconds - sum(self.step_seconds)


@dataclass(frozen=True)
class Bench:
    """A base, a dataset's files (sha256 -> file), and the folder where jobs leave what they write, with the cache that
    they share. ``cpu_threads``: 0 for as many as cores are free."""

    base: Path
    files: Mapping[str, Path]
    scratch: Path
    cpu_threads: int = 0

    def command(self, plan: TrainPlan, resume_from: Path | None, runtime: Mapping[str, Any] | None) -> Train:
        run_id = new_id("job")
        return Train(
            run_id=run_id, plan=plan, runtime=None if runtime is None else dict(runtime), model_folder=self.base,
            model=read_card(self.base), cpu_threads=self.cpu_threads, files=dict(self.files),
            workdir=self.scratch / run_id, cache_folder=self.scratch / "cache",
            shared_cache=self.scratch / "shared-cache", resume_from=resume_from,
        )  # fmt: skip


@contextmanager
def open_trainer(home: Path, device: str) -> Iterator[TrainerHandle]:
    """A new process, which is killed at the end. It logs to ``home``."""
    trainer = TrainerHandle(device=device, slot=0, home=home, log_file=home / "trainer.log")
    try:
        yield trainer
    finally:
        trainer.kill()


def run_job(
    trainer: TrainerHandle,
    bench: Bench,
    plan: TrainPlan,
    *,
    resume_from: Path | None = None,
    runtime: Mapping[str, Any] | None = None,
    timeout_seconds: float = 3600,
    should_kill: Callable[[JobRun], bool] = lambda _: False,
) -> JobRun:
    """Until it has finished, or until ``should_kill``: then the trainer gets SIGKILL. Raises JobFailed."""
    command, made = bench.command(plan, resume_from, runtime), JobRun()
    command.workdir.mkdir(parents=True)
    last, phase, deadline = time.perf_counter(), STARTING, time.monotonic() + timeout_seconds
    run = trainer.start(command)
    while made.finished is None:
        report = _receive(run, deadline)
        now = time.perf_counter()
        made.phases[phase] += now - last
        last, phase = now, _record(report, made, phase)
        if should_kill(made):
            os.killpg(trainer.pid, signal.SIGKILL)
            trainer.wait_for_exit()
            break
    trainer.forget(command.run_id)
    return made


def _receive(run: TrainerRun, deadline: float) -> RunReport:
    try:
        report = run.receive(max(0.0, deadline - time.monotonic()))
    except TrainerDied as error:
        raise JobFailed(str(error)) from error
    if report is None:
        raise JobFailed("the time was up")
    if isinstance(report, Failed):
        raise JobFailed(f"{report.reason}: {report.detail}")
    return report


def _record(report: RunReport, made: JobRun, phase: str) -> str:
    """The phase that the job is in from now on."""
    if isinstance(report, RuntimeChosen):
        made.runtime, made.warm = report.runtime, report.warm
        return LOADING
    if isinstance(report, PhaseEntered):
        return PROOF if report.phase == "exporting" else str(report.phase.value)
    if isinstance(report, StepDone):
        made.step_seconds.append(report.seconds)
    elif isinstance(report, CheckpointSaved):
        made.checkpoints.append((report.step, report.path))
    elif isinstance(report, Finished):
        made.finished = report
    return phase
