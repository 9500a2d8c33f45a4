"""The loop: what it learns, what it leaves alone, and that a stop changes nothing."""

import gc
import hashlib
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextModel

from core.domain.dataset import DatasetManifest
from core.domain.model import ModelInfo
from core.domain.plan import TrainPlan
from core.domain.states import Phase
from tests.fixtures.bases import make_plan, write_pictures, write_random_base
from worker.training.device import Runtime, choose_runtime
from worker.training.errors import BadInput, NanLoss
from worker.training.families import load_base
from worker.training.families.protocol import Base
from worker.training.loop import TrainResult, hash_weights, train
from worker.training.observer import RecordingObserver, StepReport, Stop, Stopped

CPU = torch.device("cpu")
SIZES = [(64, 64)] * 3 + [(96, 64)] * 2 + [(64, 96)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[DatasetManifest, dict[str, Path]]:
    return write_pictures(tmp_path_factory.mktemp("pictures"), SIZES)


class Bench:
    """Runs plans on the random base, warm or cold."""

    def __init__(self, folder: Path, info: ModelInfo, manifest: DatasetManifest, files: dict[str, Path]) -> None:
        self.folder, self.info, self.manifest, self.files = folder, info, manifest, files

    def plan(self, **spec: object) -> TrainPlan:
        return make_plan(self.manifest, self.info, **spec)

    def runtime(self, plan: TrainPlan) -> Runtime:
        return choose_runtime(plan, CPU, self.info.num_parameters, cpu_threads=1)

    def load(self, runtime: Runtime) -> Base:
        return load_base("sd1", self.folder, CPU, runtime.dtype)

    def run(
        self,
        workdir: Path,
        plan: TrainPlan,
        observer: RecordingObserver | None = None,
        resume_from: Path | None = None,
        base: Base | None = None,
    ) -> TrainResult:
        runtime = self.runtime(plan)
        chosen = base or self.load(runtime)
        return train(plan, runtime, chosen, self.files, observer or RecordingObserver(), workdir, resume_from)


@pytest.fixture
def bench(random_base: tuple[Path, ModelInfo], pictures: tuple[DatasetManifest, dict[str, Path]]) -> Bench:
    return Bench(*random_base, *pictures)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fingerprint(result: TrainResult, observer: RecordingObserver) -> dict[str, str]:
    """Hashes of the adapters, of the last checkpoint (optimizer's state included) and of all samples."""
    hashes = {name: sha256(path) for name, path in result.files.items()}
    hashes["checkpoint"] = sha256(observer.checkpoints[-1][1])
    for step, shown, grid in observer.grids:
        hashes[f"grid {step}"] = sha256(grid)
        hashes |= {f"sample {step} {picture.prompt}": sha256(picture.path) for picture in shown}
    return hashes


def test_a_run_passes_its_phases_and_leaves_its_files(bench: Bench, tmp_path: Path) -> None:
    observer = RecordingObserver()
    plan = bench.plan(steps=6, checkpoints={"every": 3}, samples={"every": 3})
    result = bench.run(tmp_path, plan, observer)
    assert list(dict.fromkeys(observer.phases)) == [Phase.CACHING, Phase.SAMPLING, Phase.TRAINING, Phase.EXPORTING]
    assert [report.step for report in observer.steps] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in observer.checkpoints] == [3, 6]
    assert [step for step, _, _ in observer.grids] == [0, 3, 6]
    assert set(result.files) == {"kohya", "diffusers"}
    assert all(path.stat().st_size > 1000 for path in result.files.values())
    assert result.num_parameters == 4 * bench.info.adapter_dims["lora/attention"]


def test_training_lowers_the_loss_on_what_it_sees(bench: Bench, tmp_path: Path) -> None:
    observer = RecordingObserver()
    bench.run(tmp_path, bench.plan(steps=150, samples={"prompts": []}, adapter={"type": "locon"}), observer)
    losses = torch.tensor([report.loss for report in observer.steps])
    assert losses[-1] < 0.95 * losses[20]


def test_the_base_is_left_as_it_came(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(steps=2)
    base = bench.load(bench.runtime(plan))
    before, modules = hash_weights(base), [name for name, _ in base.denoiser.named_modules()]
    bench.run(tmp_path, plan, base=base)
    assert hash_weights(base) == before
    assert [name for name, _ in base.denoiser.named_modules()] == modules
    assert not any(param.requires_grad for param in base.denoiser.parameters())


def test_the_encoders_are_gone_before_the_first_step(bench: Bench, tmp_path: Path) -> None:
    alive: list[int] = []

    class Watcher(RecordingObserver):
        def step(self, report: StepReport) -> None:
            alive.append(sum(isinstance(thing, CLIPTextModel) for thing in gc.get_objects()))

    bench.run(tmp_path, bench.plan(steps=1), Watcher())
    assert alive == [0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_stopped_and_resumed_ends_in_the_same_bytes(bench: Bench, tmp_path: Path, precision: str) -> None:
    """Also over samples, accumulation, dropped and shuffled captions, mirror images and warm-up."""
    plan = bench.plan(
        steps=7,
        precision=precision,
        gradient_accumulation=2,
        flip=True,
        captions={"dropout": 0.3, "shuffle": True},
        loss={"noise_offset": 0.1, "min_snr_gamma": 5},
        schedule={"name": "cosine", "warmup_steps": 3},
        samples={"every": 3},
    )
    whole = RecordingObserver()
    expected = fingerprint(bench.run(tmp_path / "whole", plan, whole), whole)

    seen = RecordingObserver(stop=Stop.SAVE)
    resume_from, stops = None, 0
    for number in range(1, 20):
        part = RecordingObserver(stop=Stop.SAVE)
        part.should_stop = lambda part=part: Stop.SAVE if len(part.steps) >= 2 else None  # type: ignore[method-assign]
        try:
            result = bench.run(tmp_path / f"part{number}", plan, part, resume_from)
        except Stopped:
            stops += 1
            resume_from = part.checkpoints[-1][1]
            seen.grids = [*{row[0]: row for row in (*seen.grids, *part.grids)}.values()]
            continue
        seen.grids = [*{row[0]: row for row in (*seen.grids, *part.grids)}.values()]
        seen.checkpoints = part.checkpoints
        break
    assert stops == 3
    assert fingerprint(result, seen) == expected


def test_a_warm_base_gives_the_bytes_of_a_cold_one(bench: Bench, tmp_path: Path) -> None:
    """bf16, fp32 and bf16 in turn in this one process: accelerate's state must not leak between jobs."""
    warm: dict[str, Base] = {}
    for turn, precision in enumerate(["bf16", "fp32", "bf16"]):
        plan = bench.plan(steps=3, precision=precision, seed=turn)
        base = warm.setdefault(precision, bench.load(bench.runtime(plan)))
        hot, cold = RecordingObserver(), RecordingObserver()
        hot_result = bench.run(tmp_path / f"warm{turn}", plan, hot, base=base)
        cold_result = bench.run(tmp_path / f"cold{turn}", plan, cold)
        assert fingerprint(hot_result, hot) == fingerprint(cold_result, cold)


def test_cached_latents_of_an_earlier_attempt_are_used(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(steps=1, samples={"prompts": []})
    observer = RecordingObserver(stop=Stop.DROP)
    texts = len({image.caption for image in plan.images}) + 1
    observer.stop_at = texts + 2
    with pytest.raises(Stopped):
        bench.run(tmp_path, plan, observer)
    cached = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert len(cached) == 2
    first = bench.run(tmp_path, plan)
    assert {path: path.stat().st_mtime_ns for path in cached} == cached
    assert sha256(first.files["kohya"]) == sha256(bench.run(tmp_path / "fresh", plan).files["kohya"])


def test_a_stop_while_sampling_is_obeyed(bench: Bench, tmp_path: Path) -> None:
    class Impatient(RecordingObserver):
        def should_stop(self) -> Stop | None:
            return Stop.DROP if Phase.SAMPLING in self.phases else None

    with pytest.raises(Stopped):
        bench.run(tmp_path, bench.plan(steps=3), Impatient())


def test_a_diverging_run_fails_with_what_to_do(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(steps=50, precision="fp32", samples={"prompts": []}, optimizer={"learning_rate": 1.0})
    plan = plan.model_copy(update={"learning_rate": 1e30, "max_grad_norm": 1e30})
    with pytest.raises(NanLoss, match="not a finite number at step"):
        bench.run(tmp_path, plan)


def test_a_missing_picture_is_bad_input(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(steps=1)
    lacking = Bench(bench.folder, bench.info, bench.manifest, {})
    with pytest.raises(BadInput, match="cannot be read"):
        lacking.run(tmp_path, plan)


@pytest.mark.parametrize("damage", ["truncate", "flip", "other plan"])
def test_a_checkpoint_that_does_not_fit_is_refused(bench: Bench, tmp_path: Path, damage: str) -> None:
    plan = bench.plan(steps=2, samples={"prompts": []})
    observer = RecordingObserver()
    bench.run(tmp_path, plan, observer)
    path = observer.checkpoints[-1][1]
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "flip":
        path.write_bytes(b"\xff" * 64 + path.read_bytes()[64:])
    else:
        plan = bench.plan(steps=3, samples={"prompts": []})
    with pytest.raises(BadInput, match="checkpoint"):
        bench.run(tmp_path / "again", plan, resume_from=path)


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no Stable Diffusion 1\.x"):
        load_base("sd1", tmp_path, CPU, torch.float32)


def test_v_prediction_trains_too(pictures: tuple[DatasetManifest, dict[str, Path]], tmp_path: Path) -> None:
    folder = tmp_path / "v"
    bench = Bench(folder, write_random_base(folder, "v_prediction"), *pictures)
    observer = RecordingObserver()
    bench.run(tmp_path / "work", bench.plan(steps=3, loss={"min_snr_gamma": 5}), observer)
    assert len(observer.steps) == 3
