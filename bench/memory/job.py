"""One job in this process, and what it takes of memory in each phase.

    python -m bench.memory.job CASE BASE_FOLDER [--device cuda] > measurements.jsonl

On a CPU the peak of a phase is that of Linux's RssAnon (proc(5), /proc/PID/status), and the libraries' pages at the
end. Pages of weights' files are left out: they are in memory while a network is read, and can be dropped at any time.
On a GPU it is the most that torch's allocator had given out.
"""

import argparse
import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import BaseModel

from bench.memory.cases import find_case
from core.domain.memory import DeviceKind, Setting, choose_numerics, predict_overhead, predict_phases
from core.domain.states import Phase
from core.model_folders import read_card
from tests.fixtures.bases import make_plan, write_pictures
from worker.engine.device import choose_runtime, peak_memory_bytes, reset_peak
from worker.engine.families import load_base
from worker.engine.observer import RecordingObserver
from worker.engine.training.train import train

COMMON = {
    "steps": 3,
    "samples": {"prompts": ["zap one", "zap two", "zap three", "zap four"], "num_steps": 2},
    "validation": {"fraction": 0.25},
    "loss": {"prior_preservation": {"num_images": 0}},
}


class Measurement(BaseModel):
    """In bytes. ``tensors``: as traced; ``predicted``: on a CPU with the process and its workspaces; ``measured``: all
    of the process's memory, on a GPU its tensors."""

    phase: str
    tensors: int
    predicted: int
    measured: int

    def describe(self, base: str, job: str) -> str:
        error = self.predicted / self.measured - 1
        numbers = " | ".join(f"{number / 1e6:,.0f}" for number in (self.tensors, self.predicted, self.measured))
        return f"| {base} | {job} | {self.phase} | {numbers} | {error:+.1%} |"


class CpuPeaks(RecordingObserver):
    """Takes each phase's peak, looking every five milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self._peaks: dict[Phase, int] = defaultdict(int)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            if self.phases:
                self._peaks[self.phases[-1]] = max(self._peaks[self.phases[-1]], read_status("RssAnon"))
            time.sleep(0.005)

    def read_peaks(self) -> Mapping[Phase, int]:
        """With the libraries' pages."""
        libraries = read_status("RssFile")
        return {phase: peak + libraries for phase, peak in self._peaks.items()}


class GpuPeaks(RecordingObserver):
    """Takes each phase's peak from the allocator, and resets it where the next phase begins."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self._peaks: dict[Phase, int] = defaultdict(int)

    def phase(self, phase: Phase) -> None:
        self._take()
        super().phase(phase)

    def _take(self) -> None:
        if self.phases:
            self._peaks[self.phases[-1]] = max(self._peaks[self.phases[-1]], peak_memory_bytes(self._device))
        reset_peak(self._device)

    def read_peaks(self) -> Mapping[Phase, int]:
        self._take()
        return self._peaks


def read_status(name: str, pid: int | None = None) -> int:
    """Bytes, of this process by default."""
    line = next(
        line for line in Path(f"/proc/{pid or 'self'}/status").read_text().splitlines() if line.startswith(name)
    )
    return int(line.split()[1]) * 1024


def run_case(name: str, folder: Path, device: torch.device, workdir: Path) -> list[Measurement]:
    case, info = find_case(name), read_card(folder)
    manifest, files = write_pictures(workdir / "pictures", [(256, 256)] * 8)
    plan = make_plan(manifest, info, **{**COMMON, **case.spec})
    runtime = choose_runtime(plan, device, info, os.cpu_count() or 1)
    observer = GpuPeaks(device) if device.type == "cuda" else CpuPeaks()
    base = load_base(info.family, folder, device, runtime.dtype)
    train(plan, runtime, base, files, observer, workdir / "job")
    kind: DeviceKind = "cuda" if device.type == "cuda" else "cpu"
    setting = Setting(
        choose_numerics(kind, runtime.precision), runtime.gradient_checkpointing, runtime.samples_per_pass
    )
    overhead, peaks = predict_overhead(info, kind), observer.read_peaks()
    return [
        Measurement(phase=phase.value, tensors=tensors, predicted=tensors + overhead, measured=peaks[phase])
        for phase, tensors in match_phases(predict_phases(plan, info, setting)).items()
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case")
    parser.add_argument("base", type=Path)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as workdir:
        for row in run_case(args.case, args.base, torch.device(args.device), Path(workdir)):
            print(row.model_dump_json(), flush=True)


if __name__ == "__main__":
    main()
