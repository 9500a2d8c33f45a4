"""A job with several datasets: which images are in its batches, by which caption and weight."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from core.domain.concepts import ConceptSpec, join_datasets
from core.domain.dataset import DatasetManifest
from core.domain.plan import TrainPlan
from core.domain.resolve import resolve
from core.domain.spec import TrainingSpec
from tests.fixtures.bench import Bench, check_resume
from worker.engine.training import loop
from worker.engine.training.data import Example, pick_batch

EPOCHS = 3


@pytest.fixture
def plan(bench: Bench) -> TrainPlan:
    """Two images of one concept; one of another, six times as often and half as heavy; two class images."""
    images = bench.manifest.images
    first, second, prior = (DatasetManifest(images=each) for each in (images[:2], images[2:3], images[3:5]))
    others = [
        (ConceptSpec(id="ds_2", trigger="ball", repeats=6, weight=0.5), second),
        (ConceptSpec(id="ds_3", prior=True), prior),
    ]
    joined, concepts = join_datasets(first, others)
    spec = {"trigger": "zap", "precision": "fp32", "steps": 8 * EPOCHS, "batch_size": 1, "samples": {"prompts": []}}
    return resolve(TrainingSpec.model_validate(spec), joined, bench.info, concepts=concepts)


def test_each_set_comes_as_often_and_counts_as_much_as_it_should(
    bench: Bench, plan: TrainPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, float]] = []

    def spy(*args: Any) -> tuple[list[Example], list[str]]:
        examples, texts = pick_batch(*args)
        seen.extend((text, example.weight) for text, example in zip(texts, examples, strict=True))
        return examples, texts

    monkeypatch.setattr(loop, "pick_batch", spy)
    assert plan.caption_dropout == 0
    bench.run(tmp_path, plan)
    counts = Counter(("ball" if text.startswith("ball") else "zap", weight) for text, weight in seen)
    assert counts == {("zap", 1.0): 2 * EPOCHS, ("ball", 0.5): 6 * EPOCHS}


def test_a_run_that_was_stopped_ends_in_the_same_bytes(bench: Bench, plan: TrainPlan, tmp_path: Path) -> None:
    check_resume(bench, plan, tmp_path, after_steps=5)
