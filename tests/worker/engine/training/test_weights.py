"""The weight of a dataset's images in the loss."""

from pathlib import Path

import pytest
import torch

from core.domain.plan import TrainPlan
from tests.fixtures.bench import Bench, encode_set, sha256
from worker.engine.adapters import attach_all
from worker.engine.training.data import BatchOrder, pick_batch
from worker.engine.training.objective import NoisedBatch, compute_loss

CPU = torch.device("cpu")


def weigh(plan: TrainPlan, *weights: float) -> TrainPlan:
    """The plan with these weights of its images, in turn."""
    images = tuple(
        image.model_copy(update={"weight": weights[number % len(weights)]}) for number, image in enumerate(plan.images)
    )
    return plan.model_copy(update={"images": images})


def test_each_samples_loss_counts_by_its_images_weight(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(batch_size=3, captions={"dropout": 0.0}, precision="fp32")
    base = bench.load(bench.runtime(plan))
    attach_all(base, plan)

    def measure(weighed: TrainPlan, part: slice = slice(None)) -> float:
        cache = encode_set(base, weighed, bench.files, tmp_path)
        examples, texts = pick_batch(cache, weighed, BatchOrder(weighed), 0)
        batch = NoisedBatch(weighed, base, 0, examples).subset(part)
        with torch.no_grad():
            conditioning = [{**cache.conditioning[text], **examples[0].size_conditioning} for text in texts[part]]
            return float(compute_loss(base, weighed, batch, conditioning, CPU))

    size = len(pick_batch(encode_set(base, plan, bench.files, tmp_path), plan, BatchOrder(plan), 0)[0])
    alone = [measure(plan, slice(k, k + 1)) for k in range(size)]
    weights = (0.5, 2.0, 3.0)
    indices = BatchOrder(plan).batch_at(0)
    expected = sum(weights[i % 3] * loss for i, loss in zip(indices, alone, strict=True)) / size
    assert size == 3
    assert measure(weigh(plan, *weights)) == pytest.approx(expected, rel=1e-4)
    assert measure(weigh(plan, 1.0)) == pytest.approx(sum(alone) / size, rel=1e-4)


def test_a_weight_changes_the_adapter_and_a_weight_of_one_does_not(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(steps=3, samples={"prompts": []})
    plain, ones, unlike = (
        sha256(bench.run(tmp_path / f"{number}", one).files["kohya"])
        for number, one in enumerate((plan, weigh(plan, 1.0), weigh(plan, 1.0, 0.1)))
    )
    assert plain == ones != unlike
