"""A long job, and two jobs beside each other, on the bundled base and a CPU.

    python -m bench.endurance [--steps 10000] [--pair-steps 100] [--out out/endurance.md] [--write DOCUMENT]

The long job shows whether steps stay as fast, and memory as large, as at first. The two jobs run in a trainer each:
with as many threads as there are cores, and with the threads that jobs choose by themselves. Nothing else should run.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench.jobs import Bench, JobRun, open_trainer, run_job
from bench.memory.job import read_status
from bench.report import write_report
from core.domain.plan import TrainPlan
from core.model_folders import BUNDLED, read_card
from tests.fixtures.bases import make_plan, write_pictures
from worker.device.trainer import TrainerHandle
from worker.engine.cores import count_usable_cores

MARKER = "endurance"
BASE, NUM_IMAGES, SIDE = BUNDLED / "tiny", 12, 64
PARTS, SAMPLE_EVERY = 10, 10
BY_FREE_CORES = 0
WARMUP_STEPS, SECONDS_BETWEEN_STARTS = 2, 3.0


@dataclass
class Memory:
    """The trainer's resident memory in bytes, by the steps done."""

    trainer: TrainerHandle
    samples: dict[int, int] = field(default_factory=dict)

    def sample(self, run: JobRun) -> bool:
        """False: the job goes on."""
        if (step := len(run.step_seconds)) % SAMPLE_EVERY == 0 and step not in self.samples:
            self.samples[step] = read_status("VmRSS", self.trainer.pid)
        return False


def measure_long_job(folder: Path, steps: int) -> list[str]:
    """Lines of Markdown: medians in tenths of the job."""
    plan, files = make_job(folder, steps)
    with open_trainer(folder / "home", "cpu") as trainer:
        memory = Memory(trainer)
        made = run_job(trainer, Bench(BASE, files, folder), plan, timeout_seconds=86_400, should_kill=memory.sample)
    rows, tenth = [], steps // PARTS
    for first in range(0, tenth * PARTS, tenth):
        seconds = statistics.median(made.step_seconds[first : first + tenth])
        resident = statistics.median(size for step, size in memory.samples.items() if first < step <= first + tenth)
        rows.append((first, seconds, resident))
    slower, larger = rows[-1][1] / rows[0][1] - 1, rows[-1][2] / rows[0][2] - 1
    return [
        "| steps | a step | the trainer's memory |", "| --- | --- | --- |",
        *(f"| {first + 1:,} to {first + tenth:,} | {seconds * 1000:.0f} ms | {resident / 1e6:,.0f} MB |"
          for first, seconds, resident in rows), "",
        f"The last tenth against the first: {slower:+.1%} of a step's time, {larger:+.1%} of memory.",
    ]  # fmt: skip


def measure_pair(folder: Path, steps: int) -> list[str]:
    plan, files = make_job(folder, steps)
    lines = ["| threads of each | one trainer | two together | ratio |", "| --- | --- | --- | --- |"]
    for threads in (count_usable_cores(), BY_FREE_CORES):
        alone, together = (
            measure_rate(folder / f"{threads}-{count}", plan, files, threads=threads, num_trainers=count)
            for count in (1, 2)
        )
        name = threads or "by the cores that are free"
        lines.append(f"| {name} | {alone:.2f} steps/s | {together:.2f} steps/s | {together / alone:.2f} |")
    return lines


def measure_rate(folder: Path, plan: TrainPlan, files: dict[str, Path], *, threads: int, num_trainers: int) -> float:
    """Steps a second of all trainers together. All are warm, and their jobs begin one after the other, since a job
    chooses its threads by what runs then."""
    folders = [folder / str(number) for number in range(num_trainers)]
    benches = [Bench(BASE, files, each, threads) for each in folders]
    short = plan.model_copy(update={"steps": WARMUP_STEPS})
    with ExitStack() as stack, ThreadPoolExecutor(num_trainers) as pool:
        trainers = [stack.enter_context(open_trainer(each / "home", "cpu")) for each in folders]
        for trainer, bench in zip(trainers, benches, strict=True):
            run_job(trainer, bench, short)
        running = []
        for trainer, bench in zip(trainers, benches, strict=True):
            running.append(pool.submit(run_job, trainer, bench, plan))
            time.sleep(SECONDS_BETWEEN_STARTS)
        made = [each.result() for each in running]
    return sum(1 / run.seconds_per_step for run in made)


def make_job(folder: Path, steps: int) -> tuple[TrainPlan, dict[str, Path]]:
    """Nothing but steps, and a few checkpoints."""
    manifest, files = write_pictures(folder / "pictures", [(SIDE, SIDE)] * NUM_IMAGES)
    plan = make_plan(
        manifest, read_card(BASE), steps=steps, batch_size=1, samples={"prompts": []}, validation={"fraction": 0},
        loss={"prior_preservation": {"num_images": 0}}, checkpoints={"every": max(1, steps // PARTS)},
    )  # fmt: skip
    return plan, files


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000, help="of the long job")
    parser.add_argument("--pair-steps", type=int, default=100, help="of each of the two jobs")
    parser.add_argument("--out", type=Path, default=Path("out/endurance.md"), metavar="PATH")
    parser.add_argument("--write", type=Path, metavar="PATH", help="a document with markers for this section")
    return parser.parse_args(arguments)


def main() -> None:
    args = parse()
    with tempfile.TemporaryDirectory() as folder:
        pair = measure_pair(Path(folder) / "pair", args.pair_steps)
        long_job = measure_long_job(Path(folder) / "long", args.steps)
    head = f"{count_usable_cores()} cores, {datetime.now(UTC):%Y-%m-%d}; batch 1, 12 images, no samples."
    lines = [head, "", *pair, "", *long_job]
    write_report(lines, args.out, args.write, MARKER)


if __name__ == "__main__":
    main()
