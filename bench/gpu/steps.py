"""Times the engine's step on a base in one way after the other.

    python -m bench.gpu.steps BASE_FOLDER --device cuda --cells JSON [--steps 5] > rows.jsonl

A way that fails, for lack of memory say, is a row as well.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from pydantic import TypeAdapter

from bench.gpu.rows import Cell, StepRow, emit
from bench.steps import TimedSteps, time_steps
from core.domain.model import ModelInfo
from core.model_folders import read_card
from tests.fixtures.bases import make_plan, write_pictures
from worker.engine.device import choose_runtime
from worker.engine.errors import describe_unexpected
from worker.engine.families import load_base
from worker.engine.families.protocol import Base

NUM_IMAGES, IMAGE_SIZE = 8, 256
RANK = 16


class Stepper:
    """Times cells on one base."""

    def __init__(self, folder: Path, device: torch.device, count: int, scratch: Path) -> None:
        self._device, self._count, self._scratch = device, count, scratch
        self._info: ModelInfo = read_card(folder)
        self._manifest, self._files = write_pictures(scratch / "pictures", [(IMAGE_SIZE, IMAGE_SIZE)] * NUM_IMAGES)
        self._losses: dict[tuple[int, int], list[float]] = {}
        """Of the plain steps, by resolution and batch."""
        self._folder = folder
        self._base: Base | None = None

    def measure(self, cell: Cell) -> StepRow:
        try:
            return self._measure(cell)
        except Exception as error:  # of torch's compiler, allocator or kernels: it is what the check looks for
            return StepRow(base=self._info.id, cell=cell, error=describe_unexpected(error))

    def _measure(self, cell: Cell) -> StepRow:
        plan = make_plan(
            self._manifest, self._info, steps=1000, resolution=cell.resolution, batch_size=cell.batch,
            gradient_checkpointing=cell.checkpointing, samples={"prompts": []}, validation={"fraction": 0},
            adapter={"type": "lora", "rank": RANK, "targets": "attention"},
            loss={"prior_preservation": {"num_images": 0}},
        )  # fmt: skip
        chosen = choose_runtime(plan, self._device, self._info, 0)
        runtime = chosen.model_copy(update={"samples_per_pass": None, "gradient_checkpointing": cell.checkpointing})
        self._base = self._base or load_base(self._info.family, self._folder, self._device, runtime.dtype)
        made = time_steps(
            self._base, plan, runtime, self._files, self._scratch,
            count=self._count, strict=cell.strict, compiled=cell.compiled,
        )  # fmt: skip
        return StepRow(
            base=self._info.id,
            cell=cell,
            precision=runtime.precision,
            seconds=(statistics.median(made.seconds), min(made.seconds), max(made.seconds)),
            setup_seconds=made.setup_seconds,
            peak_bytes=made.peak_bytes,
            same_losses=self._compare(cell, made),
        )

    def _compare(self, cell: Cell, made: TimedSteps) -> bool | None:
        key = cell.resolution, cell.batch
        if cell == Cell(resolution=cell.resolution, batch=cell.batch):
            self._losses[key] = made.losses
            return None
        return made.losses == self._losses[key] if key in self._losses else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--device", required=True)
    parser.add_argument("--cells", type=TypeAdapter(list[Cell]).validate_json, required=True)
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        stepper = Stepper(args.base, torch.device(args.device), args.steps, Path(scratch))
        for cell in args.cells:
            emit(stepper.measure(cell))


if __name__ == "__main__":
    main()
