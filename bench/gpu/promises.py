"""What the trainer promises, asked of a device: whole jobs, a kill, and several precisions in one process.

    python -m bench.gpu.promises BASE_FOLDER --device cuda --resolution 512 > rows.jsonl

Every job is a real one, in the trainer's own process. Each check fails alone.
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from bench.gpu.rows import CheckRow, emit
from bench.jobs import Bench, JobFailed, JobRun, open_trainer, run_job
from core.domain.plan import TrainPlan
from core.model_folders import read_card
from tests.fixtures.bases import make_plan, write_pictures
from worker.device.trainer import TrainerHandle
from worker.engine.device import choose_precision

STEPS, CHECKPOINT_EVERY, KILL_AFTER = 12, 4, 6

Verdict = tuple[bool | None, str]


def hash_adapters(made: JobRun) -> dict[str, str]:
    """sha256 of each format's file."""
    assert made.finished is not None
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in made.finished.files.items()}


@dataclass
class Promises:
    """The checks of one device, in order: later ones compare with the first job."""

    bench: Bench
    device: torch.device
    scratch: Path
    resolution: int
    first: JobRun | None = None
    _homes: int = field(default=0)

    @property
    def precisions(self) -> tuple[str, str]:
        """The device's own, and another that it can run."""
        own = choose_precision(self.device)
        if self.device.type != "cuda":
            return own, "fp32" if own == "bf16" else "bf16"
        return own, "fp16" if own == "bf16" else "fp32"

    def plan(self, precision: str) -> TrainPlan:
        manifest, _ = write_pictures(self.scratch / "pictures", [(self.resolution, self.resolution)] * 12)
        return make_plan(
            manifest, read_card(self.bench.base), steps=STEPS, resolution=self.resolution, precision=precision,
            batch_size=2, samples={"prompts": ["zap"], "num_steps": 2}, checkpoints={"every": CHECKPOINT_EVERY},
            adapter={"type": "lora", "rank": 8, "targets": "attention"},
            loss={"prior_preservation": {"num_images": 0}},
        )  # fmt: skip

    def open(self) -> Any:
        self._homes += 1
        return open_trainer(self.scratch / f"home-{self._homes}", str(self.device))

    def rows(self) -> Iterator[CheckRow]:
        with self.open() as trainer:
            yield self._check("a whole job, cold", lambda: self._cold(trainer))
            yield self._check("the same job, warm: same bytes", lambda: self._warm(trainer))
            yield self._check("two precisions, one warm trainer", lambda: self._two_precisions(trainer))
            yield self._check("fp16 with the scaler", lambda: self._fp16(trainer))
        yield self._check("killed, and resumed to the same bytes", self._kill_and_resume)

    def _check(self, name: str, ask: Callable[[], Verdict]) -> CheckRow:
        started = time.monotonic()
        try:
            ok, detail = ask()
        except (JobFailed, AssertionError, OSError) as error:
            ok, detail = False, f"{type(error).__name__}: {error}"
        return CheckRow(name=name, ok=ok, detail=detail, seconds=time.monotonic() - started)

    def _cold(self, trainer: TrainerHandle) -> Verdict:
        made = self.first = run_job(trainer, self.bench, self.plan("auto"))
        assert made.finished is not None
        verdicts = {
            name: [tool.verdict for tool in proof.tools if tool.tool == "diffusers"]
            for name, proof in made.finished.proofs.items()
        }
        phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in made.phases.items())
        peak = made.finished.outcome.peak_memory_bytes / 1e9
        ok = all(found == ["same"] for found in verdicts.values())
        return ok, f"{made.runtime['precision']}; {phases}; a step {made.seconds_per_step:.3f} s; peak {peak:.1f} GB"

    def _warm(self, trainer: TrainerHandle) -> Verdict:
        made = run_job(trainer, self.bench, self.plan("auto"))
        same = hash_adapters(made) == self._hash_first()
        return same and made.warm, f"{made.seconds:.1f} s, of which {made.seconds_beside_steps:.1f} s beside the steps"

    def _two_precisions(self, trainer: TrainerHandle) -> Verdict:
        own, other = self.precisions
        differing = run_job(trainer, self.bench, self.plan(other))
        again = run_job(trainer, self.bench, self.plan("auto"))
        same = hash_adapters(again) == self._hash_first()
        distinct = hash_adapters(differing) != self._hash_first()
        found = "in memory" if again.warm else "loaded again"
        detail = f"{own}, {other}, {own}: the last found its base {found}, and its bytes {'are' if same else 'are not'}"
        return same and distinct, f"{detail} the first's"

    def _fp16(self, trainer: TrainerHandle) -> Verdict:
        if self.device.type != "cuda":
            return None, "accelerate has fp16 on GPUs alone"
        made = run_job(trainer, self.bench, self.plan("fp16"))
        assert made.finished is not None
        with safe_open(made.checkpoints[-1][1], "pt") as file:
            scaler = json.loads(file.metadata()["atelier"])["scaler"]
        loss = made.finished.outcome.final_loss
        return scaler is not None and loss == loss, f"loss {loss:.4f}, scale {(scaler or {}).get('scale')}"

    def _kill_and_resume(self) -> Verdict:
        plan = self.plan("auto")
        with self.open() as trainer:
            killed = run_job(trainer, self.bench, plan, should_kill=lambda made: len(made.step_seconds) >= KILL_AFTER)
        assert killed.finished is None and killed.checkpoints, "it ended before the kill"
        step, path = killed.checkpoints[-1]
        with self.open() as trainer:
            resumed = run_job(trainer, self.bench, plan, resume_from=path, runtime=killed.runtime)
        same = hash_adapters(resumed) == self._hash_first()
        how = f"SIGKILL after step {len(killed.step_seconds)}, resumed at step {step}"
        return same, f"{how}: {len(resumed.step_seconds)} of {STEPS} steps were taken again"

    def _hash_first(self) -> dict[str, str]:
        assert self.first is not None and self.first.finished is not None, "the first job failed"
        return hash_adapters(self.first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--device", required=True)
    parser.add_argument("--resolution", type=int, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        size = (args.resolution, args.resolution)
        _, files = write_pictures(scratch / "pictures", [size] * 12)
        bench = Bench(args.base, files, scratch / "jobs")
        for row in Promises(bench, torch.device(args.device), scratch, args.resolution).rows():
            emit(row)


if __name__ == "__main__":
    main()
