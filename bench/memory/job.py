"""One job in this process, and what it takes of memory in each phase.

    python -m bench.memory.job CASE BASE_FOLDER > measurements.jsonl

The peak of a phase is that of Linux's RssAnon (proc(5), /proc/PID/status), and the libraries' pages at the end. Pages
of weights' files are left out: they are in memory while a network is read, and can be dropped at any time.
"""

import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import BaseModel

from bench.memory.cases import CASES
from core.domain.memory import Setting, choose_numerics, predict_overhead, predict_phases
from core.domain.states import Phase
from core.model_folders import read_card
from tests.fixtures.bases import make_plan, write_pictures
from worker.engine.device import choose_runtime
from worker.engine.families import load_base
from worker.engine.observer import RecordingObserver
from worker.engine.training.train import train

CPU = torch.device("cpu")
COMMON = {
    "steps": 3,
    "samples": {"prompts": ["zap one", "zap two", "zap three", "zap four"], "num_steps": 2},
    "validation": {"fraction": 0.25},
    "loss": {"prior_preservation": {"num_images": 0}},
}


class Measurement(BaseModel):
    """In bytes. ``tensors``: as traced; ``predicted``: with the process and its workspaces; ``measured``: all of the
    process's memory."""

    phase: str
    tensors: int
    predicted: int
    measured: int

    def describe(self, base: str, job: str) -> str:
        error = self.predicted / self.measured - 1
        numbers = " | ".join(f"{number / 1e6:,.0f}" for number in (self.tensors, self.predicted, self.measured))
        return f"| {base} | {job} | {self.phase} | {numbers} | {error:+.1%} |"


class PeakObserver(RecordingObserver):
    """Takes each phase's peak, looking every five milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.peaks: dict[Phase, int] = defaultdict(int)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            if self.phases:
                self.peaks[self.phases[-1]] = max(self.peaks[self.phases[-1]], read_status("RssAnon"))
            time.sleep(0.005)


def read_status(name: str) -> int:
    """Bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def run_case(name: str, folder: Path, workdir: Path) -> list[Measurement]:
    case, info = next(case for case in CASES if case.name == name), read_card(folder)
    manifest, files = write_pictures(workdir / "pictures", [(256, 256)] * 8)
    plan = make_plan(manifest, info, **{**COMMON, **case.spec})
    runtime = choose_runtime(plan, CPU, info, os.cpu_count() or 1)
    observer = PeakObserver()
    base = load_base(info.family, folder, CPU, runtime.dtype)
    train(plan, runtime, base, files, observer, workdir / "job")
    predicted = predict_phases(
        plan, info, Setting(choose_numerics("cpu", runtime.precision), runtime.gradient_checkpointing)
    )
    libraries, overhead = read_status("RssFile"), predict_overhead(info, "cpu")
    return [
        Measurement(
            phase=phase.value,
            tensors=tensors,
            predicted=tensors + overhead,
            measured=observer.peaks[phase] + libraries,
        )
        for phase, tensors in match_phases(predicted).items()
    ]


def match_phases(predicted: Mapping[str, int]) -> dict[Phase, int]:
    """A job's phases, each of which has two of the traced ones."""
    pairs = {
        Phase.CACHING: ("encoding texts", "encoding images"),
        Phase.SAMPLING: ("sampling", "decoding images"),
        Phase.TRAINING: ("training", "held-out loss"),
    }
    return {phase: max(predicted[name] for name in names) for phase, names in pairs.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as workdir:
        for row in run_case(sys.argv[1], Path(sys.argv[2]), Path(workdir)):
            print(row.model_dump_json(), flush=True)


if __name__ == "__main__":
    main()
