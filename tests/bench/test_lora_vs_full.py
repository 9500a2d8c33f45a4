"""Full fine-tuning by the engine's parts is an adapter's training, but of all weights; and its table."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.full_training import FullResult, train_full
from bench.lora_vs_full import main
from core.domain.dataset import DatasetManifest
from core.domain.model import ModelInfo
from tests.fixtures.bench import Bench, pictures, random_base
from worker.engine.observer import RecordingObserver

__all__ = ["pictures", "random_base"]

SPEC = {
    "steps": 3, "precision": "fp32", "loss": {"prior_preservation": {"num_images": 0}}, "samples": {"prompts": []},
    "optimizer": {"learning_rate": 1e-3}, "schedule": {"name": "constant", "warmup_steps": 0},
}  # fmt: skip


def run_full(bench: Bench, workdir: Path) -> FullResult:
    plan = bench.plan(**SPEC)
    runtime = bench.runtime(plan)
    return train_full(plan, runtime, bench.load(runtime), bench.files, workdir)


@pytest.fixture
def bench(random_base: tuple[Path, ModelInfo], pictures: tuple[DatasetManifest, dict[str, Path]]) -> Bench:
    return Bench(*random_base, *pictures)


def test_all_weights_learn_and_the_first_loss_is_that_of_an_adapter(bench: Bench, tmp_path: Path) -> None:
    full, observer = run_full(bench, tmp_path / "full"), RecordingObserver()
    bench.run(tmp_path / "lora", bench.plan(**SPEC), observer)
    assert full.losses[0] == pytest.approx(observer.steps[0].loss, rel=1e-6)  # a new adapter changes nothing
    assert len(full.losses) == 3 and full.num_parameters == bench.info.num_parameters
    base = bench.load(bench.runtime(bench.plan(**SPEC))).denoiser.module.state_dict()
    moved = {name: not torch.equal(weight, base[name].half()) for name, weight in load_file(full.file).items()}
    assert moved.keys() == base.keys() and sum(moved.values()) > 0.9 * len(moved)


def test_full_training_is_seeded(bench: Bench, tmp_path: Path) -> None:
    one, two = (run_full(bench, tmp_path / name) for name in ("one", "two"))
    assert one.losses == two.losses and one.file.read_bytes() == two.file.read_bytes()


@pytest.mark.long
def test_the_table_has_a_row_for_each_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "table.md"
    sizes = ["--images", "4", "--steps", "2", "--prompts", "1", "--asked", "2", "--threads", "1"]
    monkeypatch.setattr("sys.argv", ["lora_vs_full", *sizes, "--full-rates", "1e-5", "--out", str(out)])
    main()
    rows = [line.split(" | ") for line in out.read_text().splitlines() if line.startswith("| ")][2:]
    assert [row[0] for row in rows] == ["| LoRA, rank 4, attention", "| as the card says", "| full fine-tuning"]
    shares = [float(row[4].partition("(")[2].rstrip("%)")) for row in rows]
    assert shares[0] < 2 < shares[2] == 100
    megabytes = [float(row[5].removesuffix(" MB")) for row in rows]
    assert megabytes[0] < 1 < 20 < megabytes[2]
