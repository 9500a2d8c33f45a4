"""Advice on a plan before it runs: images that lose most of their area, and images that are enlarged."""

import pytest

from core.domain.advice import Advice, advise
from core.domain.dataset import DatasetManifest
from core.domain.resolve import resolve
from core.domain.spec import TrainingSpec
from tests.core.domain.test_plan import MODEL, image


def advise_on(*sizes: tuple[int, int], **spec: object) -> list[Advice]:
    images = tuple(image(number, size=size) for number, size in enumerate(sizes))
    manifest = DatasetManifest(images=images)
    return list(advise(resolve(TrainingSpec.model_validate(spec), manifest, MODEL), manifest))


def test_images_that_fit_are_not_spoken_of() -> None:
    assert advise_on((64, 64), (128, 64), (640, 480), (66, 64), (60, 60)) == []


@pytest.mark.parametrize(("size", "share"), [((4096, 128), "97%"), ((64, 6400), "99%"), ((1600, 64), "96%")])
def test_a_picture_that_is_cut_away_in_a_square(size: tuple[int, int], share: str) -> None:
    [advice] = advise_on((64, 64), size, bucketing=False)
    assert (advice.code, advice.field, advice.files) == ("cropped", "/bucketing", ("1.png",))
    assert (
        share in advice.message and "1 of 2 images loses" in advice.message and "leave bucketing on" in advice.message
    )


def test_a_picture_longer_than_any_bucket() -> None:
    [advice] = advise_on((64, 64), (6400, 64))
    assert (advice.code, advice.field) == ("cropped", None)
    assert "crop them yourself" in advice.message


def test_images_that_are_enlarged() -> None:
    [advice] = advise_on((16, 16), (32, 32), (64, 64), resolution=64)
    assert (advice.code, advice.field, advice.files) == ("enlarged", "/resolution", ("0.png", "1.png"))
    assert "2 of 3 images are smaller" in advice.message and "4.0 times" in advice.message
    assert [found.code for found in advise_on((64, 64), resolution=128)] == ["enlarged"]


def test_a_time_limit_that_the_job_will_run_into() -> None:
    images = DatasetManifest(images=(image(0),))
    made = resolve(TrainingSpec(max_duration_seconds=60), images, MODEL)
    assert advise(made, images, seconds=59.0) == advise(made, images) == ()
    [advice] = advise(made, images, seconds=1200.0)
    assert (advice.code, advice.field) == ("time-limit", "/max_duration_seconds")
    assert "1,200 seconds" in advice.message and "after 60" in advice.message


def test_a_precision_that_is_emulated_here() -> None:
    images = DatasetManifest(images=(image(0),))
    made = resolve(TrainingSpec(precision="fp16"), images, MODEL)
    [advice] = advise(made, images, devices=frozenset({"cpu"}))
    assert (advice.code, advice.field) == ("emulated", "/precision")
    assert advise(made, images) == advise(made, images, devices=frozenset({"cpu", "cuda"})) == ()


def test_only_the_worst_are_named() -> None:
    [advice] = advise_on(*[(8 + number, 8 + number) for number in range(12)])
    assert advice.files == tuple(f"{number}.png" for number in range(5))


def test_a_picture_that_is_there_twice() -> None:
    twice = DatasetManifest(images=(image(0, size=(32, 32)), image(0, size=(32, 32))))
    [advice] = advise(resolve(TrainingSpec(), twice, MODEL), twice)
    assert "2 of 2 images" in advice.message


def advise_on_trigger(trigger: str, *captions: str) -> list[Advice]:
    images = DatasetManifest(images=tuple(image(i, caption=caption) for i, caption in enumerate(captions)))
    made = resolve(TrainingSpec(trigger=trigger), images, MODEL)
    return [advice for advice in advise(made, images) if advice.code == "trigger-spelling"]


def test_a_trigger_that_the_captions_spell_otherwise() -> None:
    [advice] = advise_on_trigger("blop", "a small blip on red", "Blip, seen from behind", "an empty room")
    assert advice.field == "/trigger"
    assert "2 of 3 captions contain 'blip'" in advice.message


@pytest.mark.parametrize(
    "captions",
    [
        ("a blop on red", "a blip"),  # one has it
        ("a red room", "a green room"),  # nothing like it
        ("a blip", "a room", "a garden"),  # only one has the other word
    ],
)
def test_a_trigger_that_is_meant_so(captions: tuple[str, ...]) -> None:
    assert advise_on_trigger("blop", *captions) == []
