"""Batches: every image once an epoch, one bucket a batch, and the same at any step whatever came before."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.domain.dataset import Bucket, DatasetManifest
from core.domain.model import ModelInfo
from core.domain.plan import TrainPlan
from tests.fixtures.bases import make_plan, write_pictures
from worker.training.data import SHUFFLES_PER_CAPTION, BatchOrder, fit_to_bucket, list_captions


@pytest.fixture
def manifest(tmp_path: Path) -> DatasetManifest:
    return write_pictures(tmp_path, [(64, 64)] * 5 + [(96, 64)] * 3)[0]


def plan_of(random_base: tuple[Path, ModelInfo], manifest: DatasetManifest, **spec: object) -> TrainPlan:
    return make_plan(manifest, random_base[1], **spec)


def test_an_epoch_sees_every_image_and_no_batch_mixes_buckets(
    random_base: tuple[Path, ModelInfo], manifest: DatasetManifest
) -> None:
    plan = plan_of(random_base, manifest, batch_size=2)
    order = BatchOrder(plan)
    assert order.batches_per_epoch == 5
    for epoch in range(3):
        batches = [order.batch_at(epoch * 5 + i) for i in range(5)]
        assert {index for batch in batches for index in batch} == set(range(8))
        assert all(len(batch) == 2 for batch in batches)
        assert all(len({plan.images[i].bucket for i in batch}) == 1 for batch in batches)


def test_a_batch_depends_on_its_number_alone(random_base: tuple[Path, ModelInfo], manifest: DatasetManifest) -> None:
    plan = plan_of(random_base, manifest, batch_size=2)
    forward = [BatchOrder(plan).batch_at(number) for number in range(20)]
    order = BatchOrder(plan)
    assert [order.batch_at(number) for number in reversed(range(20))] == forward[::-1]
    assert [BatchOrder(plan_of(random_base, manifest, batch_size=2, seed=1)).batch_at(n) for n in range(20)] != forward


def test_shuffle_moves_all_but_the_kept_tags(random_base: tuple[Path, ModelInfo], manifest: DatasetManifest) -> None:
    plan = plan_of(random_base, manifest, captions={"shuffle": True, "keep_tokens": 2})
    orders = list_captions(plan, "zap, red, blue, round, tall", 0)
    assert len(orders) == SHUFFLES_PER_CAPTION
    assert len(set(orders)) > 1
    assert all(order.startswith("zap, red, ") for order in orders)
    assert {tuple(sorted(order.split(", "))) for order in orders} == {("blue", "red", "round", "tall", "zap")}
    assert list_captions(plan_of(random_base, manifest), "zap, red", 0) == ["zap, red"]


def test_a_picture_covers_its_bucket_without_being_stretched() -> None:
    source = Image.new("RGB", (200, 100), "red")
    source.paste("blue", (100, 0, 200, 100))
    fitted = np.asarray(fit_to_bucket(source, Bucket(width=64, height=64)))
    assert fitted.shape == (64, 64, 3)
    assert fitted[32, 8].tolist() == [255, 0, 0]
    assert fitted[32, 56].tolist() == [0, 0, 255]
