"""Regularisation images of the set hold the adapter to the base, and are never trained as the subject. Repeats."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from core.domain.dataset import DatasetManifest
from core.domain.plan import TrainPlan
from core.domain.states import Phase
from tests.fixtures.bases import make_plan
from tests.fixtures.bench import Bench, check_resume, encode_set
from worker.engine.adapter_files.formats import describe_for_kohya
from worker.engine.families.protocol import Posterior
from worker.engine.observer import RecordingObserver
from worker.engine.training.caching import start_caching
from worker.engine.training.data import EMPTY, BatchOrder, Example
from worker.engine.training.prior import Prior, open_prior

SIZES = ((4, 8, 8), (4, 8, 12))
SPEC: dict[str, Any] = {"steps": 4, "samples": {"prompts": []}, "batch_size": 2}


@pytest.fixture
def manifest(pictures: tuple[DatasetManifest, dict[str, Path]]) -> DatasetManifest:
    """Three subjects of 64 x 64, and three images of two other sizes for regularisation, one of them repeated."""
    images = list(pictures[0].images)
    others = [
        image.model_copy(update={"role": "class", "caption": f"a thing {number}", "repeats": 1 + (number == 1)})
        for number, image in enumerate(images[3:])
    ]
    return DatasetManifest(images=(*images[:3], *others))


@pytest.fixture
def plan(bench: Bench, manifest: DatasetManifest) -> TrainPlan:
    return make_plan(manifest, bench.info, **SPEC)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def test_they_are_used_and_nothing_is_drawn_in_their_place(bench: Bench, plan: TrainPlan, tmp_path: Path) -> None:
    aside = plan.model_copy(update={"class_images": (), "prior_num_images": 0, "prior_prompts": ()})
    held = bench.run(tmp_path / "held", plan)
    free = bench.run(tmp_path / "free", aside)
    assert (plan.prior_num_images, len(plan.class_images)) == (3, 3)
    assert any(
        not torch.equal(tensor, weights(free.files["kohya"])[name])
        for name, tensor in weights(held.files["kohya"]).items()
    )
    assert not list((tmp_path / "held" / "cache").glob("*.prior"))


def test_they_are_never_in_a_batch_of_the_subject(plan: TrainPlan) -> None:
    order = BatchOrder(plan)
    seen = {plan.images[index].sha256 for number in range(40) for index in order.batch_at(number)}
    assert seen == {image.sha256 for image in plan.images}
    assert seen.isdisjoint({image.sha256 for image in plan.class_images})


def test_a_run_with_them_that_was_stopped_ends_in_the_same_bytes(bench: Bench, plan: TrainPlan, tmp_path: Path) -> None:
    check_resume(bench, plan, tmp_path, after_steps=2)


def test_a_batch_of_them_has_one_size_and_all_come(plan: TrainPlan) -> None:
    """Five of one size and two of another, which is the first of a batch in two of seven."""
    sizes = [(4, 8, 8)] * 3 + [(4, 8, 12)] * 2 + [(4, 8, 8)] * 2
    examples = [Example(Posterior(torch.full(size, float(n)), torch.zeros(size)), {}) for n, size in enumerate(sizes)]
    prior = Prior(examples, [f"thing {number}" for number in range(7)])
    wide = plan.model_copy(update={"prior_prompts": tuple(prior.texts), "prior_batch_size": 3})
    first, counts = 0, dict.fromkeys(range(7), 0)
    for number in range(700):
        picked, texts = prior.pick(wide, number)
        assert len({example.posterior.mean.shape for example in picked}) == 1 and len(picked) == 3
        assert set(texts) <= {EMPTY, *prior.texts}
        first += picked[0].posterior.mean.shape == (4, 8, 12)
        for example in picked:
            counts[int(example.posterior.mean.flatten()[0])] += 1
    assert first / 700 == pytest.approx(2 / 7, abs=0.05)
    assert min(counts.values()) > 150


def test_a_styles_own_images_come_in_half_of_the_batches(plan: TrainPlan) -> None:
    drawn = [Example(Posterior(torch.zeros(4, 8, 8), torch.zeros(4, 8, 8)), {})] * 5
    own = [(Example(Posterior(torch.ones(size), torch.zeros(size)), {}), f"own {size}") for size in SIZES]
    prior = Prior(drawn, ["a thing"] * 5, own)
    wide = plan.model_copy(update={"prior_prompts": ("a thing",), "prior_batch_size": 4})
    num_own = 0
    for number in range(400):
        picked, texts = prior.pick(wide, number)
        assert len(picked) == 4 and len({example.posterior.mean.shape for example in picked}) == 1
        if texts[0].startswith("own"):
            num_own += 1
            assert texts == [f"own {tuple(example.posterior.mean.shape)}" for example in picked]
        else:
            assert set(texts) <= {EMPTY, "a thing"} and not any(example.posterior.mean.any() for example in picked)
        assert Prior(drawn, ["a thing"] * 5).pick(wide, number)[1] == texts or texts[0].startswith("own")
    assert num_own / 400 == pytest.approx(0.5, abs=0.08)


def test_a_style_is_trained_with_them_and_ends_in_the_same_bytes(
    bench: Bench, pictures: tuple[DatasetManifest, dict[str, Path]], tmp_path: Path
) -> None:
    """None of those that are held out is among them."""
    prior = {"prior_preservation": {"num_images": 2, "class_prompt": "a thing"}}
    style = {**SPEC, "preset": "style", "trigger": "zog", "loss": prior, "validation": {"fraction": 0.2}}
    plan = make_plan(pictures[0], bench.info, **style)
    assert plan.held_out_images and all(image.plain_caption for image in plan.images)
    check_resume(bench, plan, tmp_path, after_steps=2)
    base, observer = bench.load(bench.runtime(plan)), RecordingObserver()
    cache = encode_set(base, plan, bench.files, tmp_path / "set")
    prior_of = open_prior(base, plan, bench.runtime(plan), cache, tmp_path / "prior", start_caching(plan, observer))
    assert [text for _, text in prior_of.own] == [image.plain_caption for image in plan.training_images]


def test_one_that_is_repeated_comes_more_often(bench: Bench, manifest: DatasetManifest) -> None:
    """As in sd-scripts, where an image is as often in an epoch as it is repeated, in any order."""
    images = tuple(image.model_copy(update={"repeats": 1 + 4 * (image.name == "0.png")}) for image in manifest.subjects)
    plan = make_plan(DatasetManifest(images=images), bench.info, batch_size=1)
    order = BatchOrder(plan)
    assert order.batches_per_epoch == 7
    for epoch in range(3):
        batches = [order.batch_at(7 * epoch + number) for number in range(7)]
        assert sorted(index for batch in batches for index in batch) == [0] * 5 + [1, 2]
    assert [order.batch_at(n) for n in range(7)] != sorted(order.batch_at(n) for n in range(7))


def test_a_file_says_how_often_its_images_were_repeated(bench: Bench, manifest: DatasetManifest) -> None:
    """As ``ss_dataset_dirs`` of sd-scripts does, whose images count with their repeats."""
    images = tuple(image.model_copy(update={"repeats": 1 + 4 * (image.name == "0.png")}) for image in manifest.images)
    plan = make_plan(DatasetManifest(images=images), bench.info, **SPEC)
    described = describe_for_kohya(plan, {}, "fp32", step=7)
    assert json.loads(described["ss_dataset_dirs"]) == {
        "dataset": {"n_repeats": 1, "img_count": 2},
        "5_dataset": {"n_repeats": 5, "img_count": 1},
    }
    assert (described["ss_num_train_images"], described["ss_num_reg_images"]) == ("7", "3")
    assert described["ss_num_epochs"] == "2"


class CachingObserver(RecordingObserver):
    """Remembers what was counted until the first other phase."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: list[tuple[int, int]] = []

    def unit(self, done: int, total: int) -> None:
        super().unit(done, total)
        if self.phases == [Phase.CACHING]:
            self.counted.append((done, total))


@pytest.mark.parametrize("own_class_images", [True, False])
def test_the_total_of_caching_is_known_from_the_start(
    bench: Bench, manifest: DatasetManifest, tmp_path: Path, own_class_images: bool
) -> None:
    images = manifest if own_class_images else DatasetManifest(images=manifest.subjects)
    prior = {} if own_class_images else {"class_prompt": "a thing", "num_images": 10}
    plan = make_plan(images, bench.info, **SPEC | {"steps": 1}, flip=True, loss={"prior_preservation": prior})
    observer = CachingObserver()
    bench.run(tmp_path, plan, observer)
    done, totals = [one[0] for one in observer.counted], {one[1] for one in observer.counted}
    assert totals == {done[-1]}, "one total, which is reached"
    assert done == sorted(set(done))
