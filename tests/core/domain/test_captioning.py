"""What decides a caption, which images get one, and what becomes of a model's words."""

import pytest

from core.domain.captioner import CaptionerInfo
from core.domain.captioning import CaptioningPlan, CaptioningSpec, caption_dataset, plan_captioning, tidy
from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.errors import InvalidRequest

TAGGER = CaptionerInfo(kind="tagger", architecture="onnx", takes_prompt=False, size=1, sha256="a" * 64)
WRITER = CaptionerInfo(kind="image-to-text", architecture="Toy", takes_prompt=True, size=1, sha256="b" * 64)


def image(number: int, caption: str | None = None, **how: object) -> ManifestImage:
    known = {"key": f"k{number}", "sha256": f"{number:064}", "size": 1, "width": 64, "height": 64, "dhash": "0" * 16}
    return ManifestImage.model_validate({"name": f"{number}.png", "caption": caption, "sharpness": 50, **known, **how})


MANIFEST = DatasetManifest(images=(image(0), image(1, "known"), image(2, "a cat", role="class"), image(3)))


def plan(info: CaptionerInfo = WRITER, **how: object) -> CaptioningPlan:
    return plan_captioning(CaptioningSpec.model_validate({"captioner": "toy", **how}), info, MANIFEST, None)


def test_the_subjects_images_are_captioned() -> None:
    assert [each.name for each in plan().choose_images(MANIFEST)] == ["0.png", "1.png", "3.png"]
    assert [each.name for each in plan(only_missing=True).choose_images(MANIFEST)] == ["0.png", "3.png"]


def test_a_caption_is_known_by_all_that_decides_it_and_by_nothing_else() -> None:
    same = plan().key_of("0")
    assert plan(prefix="x ", suffix=" y", only_missing=True).key_of("0") == same
    others = [plan().key_of("1"), plan(prompt="What?").key_of("0"), plan(TAGGER).key_of("0")]
    others += [plan(TAGGER, threshold=0.5).key_of("0")]
    others += [plan(WRITER.model_copy(update={"sha256": "c" * 64})).key_of("0")]
    assert len({same, *others}) == 6
    assert plan(TAGGER, threshold=0.35).key_of("0") == plan(TAGGER).key_of("0"), "the default said"


def test_words_become_captions_of_a_revision() -> None:
    words = {
        each.sha256: text for each, text in zip(MANIFEST.images, ("a toy", "\x00 ", "", "two\nlines"), strict=True)
    }
    made = caption_dataset("ds_1", MANIFEST, plan(prefix="p, ", suffix=" s"), words)
    assert made is not None
    assert [each.caption for each in made.manifest.images] == ["p, a toy s", "known", "a cat", "p, two lines s"]
    assert made.notes == ("Revision of ds_1: 2 captions by toy; it wrote nothing for 1 image.",)
    assert made.report().num_images == 4


def test_captions_that_are_there_already_make_no_revision() -> None:
    words = {each.sha256: each.caption or "" for each in MANIFEST.images}
    assert caption_dataset("ds_1", MANIFEST, plan(), words) is None


@pytest.mark.parametrize(
    ("words", "tidied"),
    [
        (" a\n b ", "a b"),
        ("a\x00\x1bb", "a b"),
        ("\u200b\u2028", None),
        ("", None),
        ("x" * 3000, "x" * 2000),
        ("é 猫 👩\u200d🚀", "é 猫 👩\u200d🚀"),
        ("a\ud800b", "a b"),
    ],
)
def test_words_are_tidied(words: str, tidied: str | None) -> None:
    assert tidy(words) == tidied


@pytest.mark.parametrize(
    ("info", "how", "pointer"),
    [(TAGGER, {"prompt": "x"}, "/prompt"), (WRITER, {"threshold": 0.5}, "/threshold")],
)
def test_options_without_effect_are_refused(info: CaptionerInfo, how: dict[str, object], pointer: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        plan(info, **how)
    assert list(caught.value.errors) == [pointer]
