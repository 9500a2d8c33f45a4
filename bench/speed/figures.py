"""The figures against their goals, and where a job's time goes."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.jobs import JobRun
from bench.speed.ours import Ours
from bench.speed.sizes import ProcessTimes


@dataclass(frozen=True)
class Figure:
    """A measured number: each of its measurements. Empty: not measured, and ``why``."""

    values: Sequence[float]
    unit: str = "s"
    why: str = "not run"

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None

    def __str__(self) -> str:
        if not self.values:
            return self.why
        median, digits = statistics.median(self.values), 0 if self.unit == "MB" else 2
        shown = f"{median:,.{digits}f}{' ' + self.unit if self.unit else ''}"
        if len(self.values) == 1:
            return shown
        return f"{shown} ({min(self.values):,.{digits}f} to {max(self.values):,.{digits}f})"


@dataclass(frozen=True)
class Comparison:
    """``limit``: of the ratio to the peer or, without a peer, of the value itself."""

    what: str
    limit: float
    ours: Figure
    peer: Figure | None = None

    @property
    def reached(self) -> bool | None:
        ours = self.ours.median
        if ours is None or self.peer is None:
            return None if ours is None else ours <= self.limit
        return None if not self.peer.median else ours / self.peer.median <= self.limit

    def describe(self) -> str:
        goal = f"at most {self.limit:g} {self.ours.unit}".rstrip() if self.peer is None else f"at most {self.limit:g}x"
        ratio, answer = "", {True: "yes", False: "**no**", None: ""}[self.reached]
        if self.peer is not None and self.peer.median and self.ours.median is not None:
            ratio = f"{self.ours.median / self.peer.median:.2f}x"
        return f"| {self.what} | {goal} | {self.peer or ''} | {self.ours} | {ratio} | {answer} |"


@dataclass(frozen=True)
class Results:
    """All measurements. A peer that was not run: no times, and why."""

    ours: Sequence[Ours]
    bare: Sequence[float]
    diffusers: Sequence[ProcessTimes]
    sd_scripts: Sequence[ProcessTimes]
    reasons: dict[str, str]

    def compare(self) -> list[Comparison]:
        script, kohya = "diffusers' script", "sd-scripts, `--cache_latents`"
        step = self._figure(lambda one: one.warm.seconds_per_step)
        return [
            Comparison("seconds a step: bare U-Net and peft, ideal inputs", 1.0, step, Figure(self.bare)),
            Comparison(f"seconds a step: {script}", 0.5, step, self._peer("diffusers", "seconds_per_step")),
            Comparison(
                f"seconds a step, the same 192 layers: {kohya}", 0.7,
                self._figure(lambda one: one.all_targets.seconds_per_step),
                self._peer("sd_scripts", "seconds_per_step"),
            ),
            Comparison(
                f"a job in a new trainer, to its files and proof: {script} as a process", 0.5,
                self._figure(lambda one: one.cold.seconds), self._peer("diffusers", "seconds"),
            ),
            Comparison(
                f"the job's peak of memory: {script}", 0.45,
                self._figure(lambda one: _peak_bytes(one.cold) / 1e6, "MB"),
                self._peer("diffusers", "peak_bytes", 1e-6, "MB"),
            ),
            Comparison("a warm job's time beside its steps", 4.0,
                       self._figure(lambda one: one.warm.seconds_beside_steps)),
            Comparison("second job on the same images: newly encoded", 0.0,
                       self._figure(lambda one: one.newly_encoded, "")),
        ]  # fmt: skip

    def _figure(self, read: Callable[[Ours], float], unit: str = "s") -> Figure:
        return Figure([read(one) for one in self.ours], unit)

    def _peer(self, name: str, field: str, scale: float = 1.0, unit: str = "s") -> Figure:
        times: Sequence[ProcessTimes] = getattr(self, name)
        return Figure([scale * getattr(one, field) for one in times], unit, self.reasons.get(name, "not run"))

    def phases(self) -> dict[str, dict[str, float]]:
        """For each kind of job, the median seconds of its phases."""
        kinds = self.ours[0].jobs
        return {
            kind: {
                phase: statistics.median(one.jobs[kind].phases.get(phase, 0.0) for one in self.ours)
                for phase in kinds[kind].phases
            }
            for kind in kinds
        }


def _peak_bytes(run: JobRun) -> int:
    assert run.finished is not None
    return run.finished.outcome.peak_memory_bytes


def find_slowest(phases: dict[str, float]) -> str:
    """The longest phase but the training itself."""
    beside = {name: seconds for name, seconds in phases.items() if name != "training"}
    name = max(beside, key=beside.__getitem__)
    return f"{name}, {beside[name]:.1f} s of {sum(phases.values()):.1f} s"
