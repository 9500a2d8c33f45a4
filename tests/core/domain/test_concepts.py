"""Several datasets in one plan."""

from typing import Any

import pytest
from pydantic import ValidationError

from core.domain.concepts import ConceptSpec, join_datasets
from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.errors import InvalidSpec
from core.domain.plan import TrainPlan
from core.domain.resolve import resolve
from core.domain.spec import TrainingSpec
from tests.app.factory import MODEL


def make_set(name: str, *captions: str | None) -> DatasetManifest:
    return DatasetManifest(
        images=tuple(
            ManifestImage(
                name=f"{number}.png", key=f"datasets/{name}/{number}", sha256=f"{name}{number}", size=1, width=64,
                height=64, caption=caption, dhash="0" * 16, sharpness=50.0,
            )
            for number, caption in enumerate(captions)
        )
    )  # fmt: skip


DOG, CAT = make_set("dog", "a dog in a park", None), make_set("cat", "a cat", "zog by the sea", None)


def plan(*others: tuple[dict[str, Any], DatasetManifest], **spec: Any) -> TrainPlan:
    concepts = [(ConceptSpec(id=f"ds_{index}", **given), manifest) for index, (given, manifest) in enumerate(others)]
    manifest, joined = join_datasets(DOG, concepts)
    parsed = TrainingSpec.model_validate({"trigger": "rex", **spec})
    return resolve(parsed, manifest, MODEL, concepts=joined)


def test_each_set_has_its_own_trigger() -> None:
    captions = [image.caption for image in plan(({"trigger": "zog"}, CAT)).images]
    assert captions == ["rex, a dog in a park", "rex", "zog, a cat", "zog by the sea", "zog"]
    assert [image.caption for image in plan(({}, CAT)).images][2:] == ["rex, a cat", "rex, zog by the sea", "rex"]


def test_repeats_and_weights_are_of_their_set() -> None:
    images = plan(({"repeats": 3}, CAT), ({"weight": 0.5}, make_set("fox", "a fox"))).images
    assert [image.repeats for image in images] == [1, 1, 3, 3, 3, 1]
    assert [image.weight for image in images] == [1, 1, 1, 1, 1, 0.5]


def test_repeats_count_in_epochs() -> None:
    once, thrice = (plan(({"repeats": repeats}, CAT), epochs=1, batch_size=1).steps for repeats in (1, 3))
    assert (once, thrice) == (5, 11)


def test_a_set_of_class_images_replaces_those_that_the_base_draws() -> None:
    made = plan(({"prior": True}, CAT))
    assert len(made.images) == 2
    assert [image.key for image in made.class_images] == [image.key for image in CAT.images]
    assert [image.caption for image in made.class_images] == ["a cat", "zog by the sea", ""]
    assert made.prior_num_images == 3
    with pytest.raises(InvalidSpec, match="of its own"):
        plan(({"prior": True}, CAT), loss={"prior_preservation": {"class_prompt": "a cat", "num_images": 4}})


def test_two_jobs_of_other_sets_have_other_hashes() -> None:
    hashes = {plan(*others).dataset_sha256 for others in ((), (({}, CAT),), (({"repeats": 2}, CAT),))}
    assert len(hashes) == 3


@pytest.mark.parametrize("given", [{"trigger": "zog"}, {"repeats": 2}, {"weight": 2}])
def test_class_images_have_no_concept(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="leave them out"):
        ConceptSpec(id="ds_1", prior=True, **given)


@pytest.mark.parametrize("given", [{"repeats": 0}, {"weight": 0}, {"weight": 11}, {"repeats": 101}, {"trigger": " "}])
def test_bounds(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ConceptSpec(id="ds_1", **given)
