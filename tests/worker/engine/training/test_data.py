"""Batches: every image once an epoch, one bucket a batch, and the same at any step whatever came before."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from core.domain.dataset import Bucket, DatasetManifest
from core.domain.model import ModelInfo
from core.domain.outcome import explain
from core.domain.plan import TrainPlan
from tests.fixtures.bases import make_plan, write_pictures
from tests.fixtures.bench import Bench, encode_set
from worker.engine.families import load_base
from worker.engine.observer import RecordingObserver
from worker.engine.training.data import SHUFFLES_PER_CAPTION, BatchOrder, fit_to_bucket, list_captions


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


class Texts:
    """Captions of 2, 27 and 60 letters: of one chunk, of two, and more than three (of 14)."""

    short, long, endless = "ab", "c" * 27, "d" * 60


def test_captions_that_are_cut_are_counted_and_reported_once(
    random_base: tuple[Path, ModelInfo], tmp_path: Path
) -> None:
    manifest, files = write_pictures(tmp_path, [(64, 64)] * 3)
    texts = (Texts.short, Texts.long, Texts.endless)
    images = [image.model_copy(update={"caption": text}) for image, text in zip(manifest.images, texts, strict=True)]
    plan = make_plan(DatasetManifest(images=tuple(images)), random_base[1], steps=1, samples={"prompts": []})
    base = load_base("sd1", random_base[0], torch.device("cpu"), torch.float32)
    cache = encode_set(base, plan, files, tmp_path / "cache")

    assert cache.num_cut == 1
    lengths = [len(cache.conditioning[row[0]]["states"]) for row in cache.captions]
    assert lengths == [16, 2 + 3 * 14, 2 + 3 * 14], "with the trigger in front, the second has 30 letters and a comma"


def test_a_job_says_what_of_its_captions_is_not_trained(bench: Bench, tmp_path: Path) -> None:
    spec = {"steps": 1, "samples": {"prompts": []}}
    plan, whole = bench.plan(captions={"max_token_length": 75}, **spec), bench.plan(**spec)
    warned, silent = RecordingObserver(), RecordingObserver()
    cut = bench.run(tmp_path / "cut", plan, warned)
    fine = bench.run(tmp_path / "fine", whole, silent)
    assert warned.notices == [
        "6 of 6 captions are longer than 75 tokens; the rest is not trained; the trigger is kept. "
        "captions.max_token_length may be 225."
    ]
    assert warned.notices[0] in explain(cut.outcome, plan)
    assert silent.notices == [] and "tokens" not in explain(fine.outcome, whole)
    again = RecordingObserver()
    bench.run(tmp_path / "again", plan, again, warned.checkpoints[-1][1])
    assert again.notices == [], "the first attempt said it"


def test_two_triggers_at_the_end_of_captions_that_are_cut_give_two_adapters(bench: Bench, tmp_path: Path) -> None:
    hashes = set()
    for trigger in ("zorb", "wibble"):
        spec = {"captions": {"template": "a toy on a table {caption} {caption}, {trigger}"}, "trigger": trigger}
        plan = bench.plan(steps=1, samples={"prompts": []}, **spec)
        hashes.add(hash_weights_of(bench.run(tmp_path / trigger, plan).files["kohya"]))
    assert len(hashes) == 2


def hash_weights_of(path: Path) -> str:
    tensors = load_file(path)
    return hashlib.sha256(b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))).hexdigest()
