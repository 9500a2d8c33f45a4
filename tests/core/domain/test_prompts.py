"""Which prompts samples are drawn for where a spec names none."""

import pytest

from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.prompts import call_plainly, call_style, default_prompts
from core.domain.resolve import resolve
from core.domain.spec import TrainingSpec
from tests.core.domain.test_plan import MODEL, image

NEUTRAL = (
    "a large cookie on a red background",
    "a small bus on a white background",
    "a large moon on a blue background",
)


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        (["a cat, in zog style", "a dog on a mat, in zog style"], "a large cookie on a red background, in zog style"),
        (["a cat in zog", "a hat in zog"], "a large cookie on a red background in zog"),
        (["a large zog cat", "a small zog dog"], "a large zog cookie on a red background"),
        (["zog, a cat", "zog, a dog on a mat"], "zog, a large cookie on a red background"),
        (["Zog cat", "Zog dog"], "zog a large cookie on a red background"),
        (["a cat in zog style"], "a zog large cookie on a red background"),
    ],
)  # fmt: skip
def test_a_style_is_called_where_the_captions_call_it(captions: list[str], expected: str) -> None:
    assert call_style(NEUTRAL[0], "zog", captions) == expected


def test_a_trigger_of_several_words_is_found_as_a_whole() -> None:
    captions = ["a cat, drawn by old zog", "a dog, drawn by old zog"]
    assert call_style("a bus.", "old zog", captions) == "a bus, drawn by old zog"


def test_a_style_job_samples_its_own_things_others_and_one_without_the_trigger() -> None:
    model = MODEL.model_copy(update={"neutral_prompts": NEUTRAL})
    captions = ["a cat, in zog style", "a dog, in zog style", "a hen, in zog style"]
    prompts = default_prompts(model, "style", "zog", captions)
    assert prompts[:2] == ("a cat, in zog style", "a dog, in zog style")
    assert prompts[2:5] == tuple(f"{prompt}, in zog style" for prompt in NEUTRAL)
    assert prompts[5:] == NEUTRAL[:1], "what the base should still draw as it did"


def test_a_subject_is_sampled_by_the_cards_examples() -> None:
    assert default_prompts(MODEL, "auto", "zog", ["a zog"]) == MODEL.example_prompts
    assert default_prompts(MODEL, "style", "zog", ["a cat"]) == MODEL.example_prompts, "no caption has the trigger"


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        (["a cat, in zog style", "a dog on a mat, in zog style"], ["a cat", "a dog on a mat"]),
        (["a large zog cat", "a dog", "a small Zog dog"], ["a large cat", "", "a small dog"]),
        (["zog, a cat", "zog, a dog"], ["a cat", "a dog"]),
        (["a dog"], [""]),
        (["zog style", "zog style"], ["", ""]),
        (["a cat, in zog style", "a dog in zog style"], ["a cat", "a dog"]),
    ],
)
def test_a_caption_is_said_without_its_style(captions: list[str], expected: list[str]) -> None:
    assert call_plainly("zog", captions) == expected


def test_a_styles_images_are_class_images_by_their_captions_without_it() -> None:
    """Where prior preservation is on, and not for a subject, which has no drawing of the base's own."""
    model = MODEL.model_copy(
        update={"class_prompts": ("a bus",), "defaults": MODEL.defaults.model_copy(update={"prior_num_images": 3})}
    )
    images = tuple(image(number, caption) for number, caption in enumerate(("a zog cat", "a zog hen", "a zog cat")))

    def plain(images: tuple[ManifestImage, ...], **spec: object) -> list[str]:
        asked = TrainingSpec.model_validate({"trigger": "zog", "validation": {"fraction": 0}, **spec})
        return [each.plain_caption for each in resolve(asked, DatasetManifest(images=images), model).images]

    assert plain(images, preset="style") == ["a cat", "a hen", "a cat"]
    without = (image(1, "a large cat"), image(2, "a small hen"))
    assert plain(without, preset="style") == ["a large cat", "a small hen"], "training puts the trigger in front"
    assert plain(images, preset="auto") == ["", "", ""]
    assert plain(images, preset="style", loss={"prior_preservation": {"num_images": 0}}) == ["", "", ""]
    given = image(3, "a bus").model_copy(update={"role": "class"})
    assert plain((*images, given), preset="style") == ["", "", ""], "the set has class images of its own"


@pytest.mark.parametrize(("preset", "weight"), [("auto", 4.0), ("style", 1.0)])
def test_what_holds_a_subjects_adapter_would_undo_a_styles(preset: str, weight: float) -> None:
    defaults = MODEL.defaults.model_copy(update={"prior_weight": 4.0, "prior_num_images": 3})
    model = MODEL.model_copy(update={"class_prompts": ("a bus",), "defaults": defaults})
    manifest = DatasetManifest(images=(image(1, "a zog cat"),))
    spec = {"trigger": "zog", "preset": preset}
    assert resolve(TrainingSpec.model_validate(spec), manifest, model).prior_weight == weight
    given = {**spec, "loss": {"prior_preservation": {"weight": 2.0}}}
    assert resolve(TrainingSpec.model_validate(given), manifest, model).prior_weight == 2.0


def test_a_trigger_with_dots_is_found_as_training_finds_it() -> None:
    assert call_plainly("mr. zog", ["a cat by mr. zog", "a hat by mr. zog"]) == ["a cat", "a hat"]
    assert call_style("a bus", "mr. zog", ["a cat by mr. zog", "a hat by mr. zog"]) == "a bus by mr. zog"
