"""A second job on the same images and base encodes nothing, and ends with the same bytes."""

from pathlib import Path

import pytest
import torch

from core.domain.plan import TrainPlan
from tests.fixtures.bench import Bench, encode_set, fingerprint
from worker.engine.families.latent_diffusion import LatentDiffusion
from worker.engine.families.sd1 import SD1Base
from worker.engine.observer import RecordingObserver
from worker.engine.training.train import train

SPEC = {"steps": 2, "precision": "fp32", "flip": True, "samples": {"prompts": ["zap left"], "every": 2}}


class Encoders:
    """Counts how often they are opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[str] = []
        for kind, name in ((SD1Base, "open_text_encoders"), (LatentDiffusion, "encode_images")):
            monkeypatch.setattr(kind, name, self._count(name, getattr(kind, name)))

    def _count(self, name: str, original: object) -> object:
        def counted(*args: object, **kwargs: object) -> object:
            self.opened.append(name)
            return original(*args, **kwargs)  # type: ignore[operator]

        return counted


@pytest.fixture
def encoders(monkeypatch: pytest.MonkeyPatch) -> Encoders:
    return Encoders(monkeypatch)


def run(bench: Bench, plan: TrainPlan, folder: Path, encodings: Path) -> dict[str, str]:
    observer, runtime = RecordingObserver(), bench.runtime(plan)
    result = train(plan, runtime, bench.load(runtime), bench.files, observer, folder, cache_folder=encodings)
    return fingerprint(result, observer)


def test_a_second_job_encodes_nothing(bench: Bench, encoders: Encoders, tmp_path: Path) -> None:
    plan = bench.plan(**SPEC)
    first = run(bench, plan, tmp_path / "a", tmp_path / "encodings")
    assert encoders.opened == ["open_text_encoders", "encode_images"]
    assert run(bench, plan, tmp_path / "b", tmp_path / "encodings") == first
    assert encoders.opened == ["open_text_encoders", "encode_images"]


@pytest.mark.parametrize(
    ("change", "opened"),
    [
        ({"steps": 3, "adapter": {"rank": 2}, "seed": 7}, []),
        ({"samples": {"prompts": ["zap right"], "every": 2}}, ["open_text_encoders"]),
        ({"trigger": "zip"}, ["open_text_encoders"]),
        ({"captions": {"max_token_length": 150}}, ["open_text_encoders"]),
        ({"resolution": 128}, ["encode_images"]),
        ({"precision": "bf16"}, ["encode_images"]),
        ({"precision": "fp16"}, []),
    ],
)
def test_what_another_job_needs_is_encoded(
    bench: Bench, encoders: Encoders, tmp_path: Path, change: dict[str, object], opened: list[str]
) -> None:
    plan, other = bench.plan(**SPEC), bench.plan(**{**SPEC, **change})
    base = bench.load(bench.runtime(plan))
    encode_set(base, plan, bench.files, tmp_path)
    del encoders.opened[:]
    again = encode_set(base, other, bench.files, tmp_path)
    assert encoders.opened == opened
    alone = encode_set(base, other, bench.files, tmp_path / "alone")
    assert again.conditioning.keys() == alone.conditioning.keys()
    for text in alone.conditioning:
        assert again.conditioning[text]["states"].equal(alone.conditioning[text]["states"])
    for key, example in alone.examples.items():
        assert again.examples[key].posterior.mean.equal(example.posterior.mean)


def test_images_are_encoded_in_bf16_where_a_job_computes_in_it(bench: Bench, tmp_path: Path) -> None:
    plans = {precision: bench.plan(**{**SPEC, "precision": precision}) for precision in ("fp32", "bf16")}
    base = bench.load(bench.runtime(plans["fp32"]))
    encoded = {precision: encode_set(base, plan, bench.files, tmp_path) for precision, plan in plans.items()}
    for key, exact in encoded["fp32"].examples.items():
        found = encoded["bf16"].examples[key].posterior.mean
        assert found.dtype == torch.float32 and not found.equal(exact.posterior.mean)
        torch.testing.assert_close(found, exact.posterior.mean, rtol=0.05, atol=0.05)


def test_damaged_files_are_written_again(bench: Bench, encoders: Encoders, tmp_path: Path) -> None:
    plan = bench.plan(**SPEC)
    base = bench.load(bench.runtime(plan))
    whole = encode_set(base, plan, bench.files, tmp_path)
    for ending in ("latents", "conditioning"):
        path = next(tmp_path.glob(f"*.{ending}"))
        path.write_bytes(path.read_bytes()[:50])
    again = encode_set(base, plan, bench.files, tmp_path)
    assert again.conditioning.keys() == whole.conditioning.keys()
    assert again.examples.keys() == whole.examples.keys()


def test_texts_that_are_cut_are_known_from_the_files(bench: Bench, encoders: Encoders, tmp_path: Path) -> None:
    plan = bench.plan(**SPEC, captions={"template": "{trigger} " + "very " * 90})
    base = bench.load(bench.runtime(plan))
    first, second = (encode_set(base, plan, bench.files, tmp_path) for _ in range(2))
    assert first.num_cut == second.num_cut == len(plan.images)
