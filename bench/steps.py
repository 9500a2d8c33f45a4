"""Times the engine's own optimizer step, on a dataset in memory and with nothing between two steps."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from core.domain.plan import TrainPlan
from worker.engine.adapters import detach
from worker.engine.device import Runtime, free_memory, open_accelerator, peak_memory_bytes, reset_peak
from worker.engine.families.protocol import Base
from worker.engine.observer import RecordingObserver
from worker.engine.training.caching import fill_cache, start_caching
from worker.engine.training.loop import Run
from worker.engine.training.prior import open_prior

Compiled = Literal["no", "blocks", "whole"]
"""By torch.compile with its defaults: nothing; each transformer block (diffusers' compile_repeated_blocks); or the
denoiser as a whole."""


@dataclass(frozen=True)
class TimedSteps:
    """Seconds of each step, without the warm-up's, which took ``setup_seconds``; the losses of all steps; and the peak
    of the device's memory in bytes (on a CPU the process's since its start)."""

    seconds: list[float]
    setup_seconds: float
    losses: list[float]
    peak_bytes: int


def time_steps(
    base: Base, plan: TrainPlan, runtime: Runtime, files: Mapping[str, Path], folder: Path, *,
    count: int, warmup: int = 2, strict: bool = True, compiled: Compiled = "no",
) -> TimedSteps:  # fmt: skip
    """``folder``: keeps what is encoded, for other measures on the same images. ``strict``: by deterministic algorithms
    alone, as all jobs are."""
    with open_run(base, plan, runtime, files, folder, strict=strict, compiled=compiled) as run:
        device = run.device
        reset_peak(device)
        losses: list[float] = []

        def step() -> None:
            losses.append(run.one_step())

        setup_seconds = sum(time_on(device, step) for _ in range(warmup))
        seconds = [time_on(device, step) for _ in range(count)]
        return TimedSteps(seconds, setup_seconds, losses, peak_memory_bytes(device))


def time_on(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds, until the device has done it."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


@contextmanager
def open_run(
    base: Base, plan: TrainPlan, runtime: Runtime, files: Mapping[str, Path], folder: Path, *,
    strict: bool, compiled: Compiled,
) -> Iterator[Run]:  # fmt: skip
    """The engine's run before its first step; the base is as it was at the end."""
    accelerator, observer = open_accelerator(runtime), RecordingObserver()
    progress = start_caching(plan, observer)
    cache = fill_cache(base, plan, runtime, files, folder / "cache", folder / "conditioning", progress)
    with runtime.autocast():
        prior = open_prior(base, plan, runtime, cache, folder / "cache", progress)
    if not strict:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = True
    try:
        run = Run(plan, runtime, base, cache, prior, accelerator, observer, folder)
        _compile(base.denoiser.module, compiled)
        run.set_mode(training=True)
        yield run
    finally:
        for module in base.denoiser.module.modules():
            module._compiled_call_impl = None
        detach(base.denoiser)
        if compiled != "no":
            torch.compiler.reset()
        gc.collect()
        free_memory(accelerator.device)


def _compile(denoiser: torch.nn.Module, compiled: Compiled) -> None:
    if compiled == "blocks":
        denoiser.compile_repeated_blocks()  # type: ignore[operator]
    elif compiled == "whole":
        denoiser.compile()
