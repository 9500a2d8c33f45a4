"""Atelier's trainer process, as a worker starts it: cold, warm, and a second job on the same dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.jobs import Bench, JobRun, open_trainer, run_job
from bench.speed.sizes import ALL, ATTENTION, Place, Sizes
from core.domain.dataset import DatasetManifest
from core.model_folders import read_card
from tests.fixtures.bases import make_plan


@dataclass(frozen=True)
class Ours:
    """One measurement. ``warm`` has the base in memory and nothing encoded; ``second`` has both. ``all_targets``: a
    warm job with the adapter on all layers. ``newly_encoded``: the files that the second job added to the cache."""

    cold: JobRun
    warm: JobRun
    second: JobRun
    all_targets: JobRun
    newly_encoded: int

    @property
    def jobs(self) -> dict[str, JobRun]:
        return {"cold": self.cold, "warm": self.warm, "second on the same images": self.second}


def measure_ours(place: Place, manifest: DatasetManifest, files: Mapping[str, Path], sizes: Sizes, number: int) -> Ours:
    """``files``: sha256 -> file. Raises JobFailed."""
    card, scratch = read_card(place.base), place.scratch / f"ours-{number}"
    plans = {targets: make_plan(manifest, card, **sizes.spec(targets)) for targets in (ATTENTION, ALL)}

    def bench(cache: str) -> Bench:
        return Bench(place.base, files, scratch / cache, sizes.threads)

    with open_trainer(scratch / "home", "cpu") as trainer:
        cold = run_job(trainer, bench("a"), plans[ATTENTION])
        warm = run_job(trainer, bench("b"), plans[ATTENTION])
        before = count_encoded(scratch / "b")
        second = run_job(trainer, bench("b"), plans[ATTENTION])
        newly_encoded = count_encoded(scratch / "b") - before
        return Ours(cold, warm, second, run_job(trainer, bench("b"), plans[ALL]), newly_encoded)


def count_encoded(folder: Path) -> int:
    return sum(path.is_file() for path in (folder / "cache").rglob("*"))
