"""What each edit makes of captions and of images."""

import time
from typing import Any

import pytest

from core.domain.caption_edits import CaptionEditor, CaptionTooLong
from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.edits import Edits
from core.domain.errors import DatasetRejected, InvalidRequest
from core.domain.revision import Revision, revise


def image(name: str, caption: str | None = None, **values: Any) -> ManifestImage:
    sha256 = values.pop("sha256", name.encode().hex().ljust(64, "0"))
    return ManifestImage(
        name=name, key=f"datasets/ds_1/images/{sha256}.png", sha256=sha256, size=1, width=64, height=32,
        caption=caption, dhash="0", sharpness=50.0, **values,
    )  # fmt: skip


def manifest(*images: ManifestImage) -> DatasetManifest:
    return DatasetManifest(images=images)


def apply(parent: DatasetManifest, sources: dict[str, DatasetManifest] | None = None, **edits: Any) -> Revision:
    return revise("ds_1", parent, Edits.model_validate(edits), sources or {}, max_images=5)


@pytest.mark.parametrize(
    ("before", "edits", "after"),
    [
        ("a cat, a catalogue", {"find_replace": [{"find": "cat", "replace": "dog"}]}, "a dog, a dogalogue"),
        (
            "a cat, a catalogue",
            {"find_replace": [{"find": "cat", "replace": "dog", "whole_word": True}]},
            "a dog, a catalogue",
        ),
        ("A Cat", {"find_replace": [{"find": "cat", "replace": "dog", "ignore_case": True}]}, "A dog"),
        ("A Cat", {"find_replace": [{"find": "cat", "replace": "dog"}]}, "A Cat"),
        ("a+b.", {"find_replace": [{"find": "a+b.", "replace": r"\1\g<0>"}]}, r"\1\g<0>"),
        ("cat", {"find_replace": [{"find": "cat", "replace": "catcat", "whole_word": True}]}, "catcat"),
        ("aaa", {"find_replace": [{"find": "aa", "replace": "b"}]}, "ba"),
        ("xaa aa", {"find_replace": [{"find": "aa", "replace": "b", "whole_word": True}]}, "xaa b"),
        ("a caf\u00e9", {"find_replace": [{"find": "caf", "replace": "b", "whole_word": True}]}, "a caf\u00e9"),
        (
            "\u0130stanbul CAT \u0130",
            {"find_replace": [{"find": "cat", "replace": "dog", "ignore_case": True}]},
            "\u0130stanbul dog \u0130",
        ),
        ("(cat)", {"find_replace": [{"find": "(cat)", "replace": "x", "whole_word": True}]}, "x"),
        ("a b", {"find_replace": [{"find": "a", "replace": "b"}, {"find": "b", "replace": "c"}]}, "c c"),
        ("a  cat", {"find_replace": [{"find": "cat"}]}, "a"),
        ("cat", {"find_replace": [{"find": "cat"}]}, None),
        ("cat", {"find_replace": [{"find": "cat", "replace": "\u200b"}]}, None),
        (None, {"find_replace": [{"find": "cat", "replace": "x"}], "prefix": "a ", "suffix": "b"}, None),
        ("1girl,  Solo, smile", {"remove_tags": ["solo", "hat"]}, "1girl, smile"),
        ("1girl,  smile", {"remove_tags": ["solo"]}, "1girl, smile"),
        ("solo", {"remove_tags": ["solo"], "prefix": "a "}, None),
        ("1girl, smile", {"add_tags": {"tags": ["hat", "SMILE", "hat"]}}, "1girl, smile, hat"),
        ("1girl", {"add_tags": {"tags": ["a", "b"], "position": "front"}}, "a, b, 1girl"),
        (None, {"add_tags": {"tags": ["a", "b"]}, "prefix": "x, "}, "x, a, b"),
        ("cat", {"prefix": "a photo of ", "suffix": "s"}, "a photo of cats"),
    ],
)  # fmt: skip
def test_captions(before: str | None, edits: dict[str, Any], after: str | None) -> None:
    assert CaptionEditor(Edits.model_validate(edits)).edit(before) == after


def test_a_caption_never_grows_beyond_its_bound() -> None:
    """Not even between two rules: twenty could multiply it to nothing that fits into memory."""
    edits = Edits.model_validate({"find_replace": [{"find": "a", "replace": "a" * 200}] * 20})
    with pytest.raises(CaptionTooLong):
        CaptionEditor(edits).edit("a")
    assert CaptionEditor(Edits(suffix="b")).edit("a" * 1999) is not None
    with pytest.raises(InvalidRequest, match=r"captions of a\.png would be longer than 2,000"):
        apply(manifest(image("a.png", "a" * 2000)), suffix="b")


def test_replacing_takes_linear_time() -> None:
    """A regular expression without case would compare some 200 letters at each of 2,000 places."""
    rule = {"find": "a" * 199 + "b", "replace": "c", "ignore_case": True}
    editor = CaptionEditor(Edits.model_validate({"find_replace": [rule] * 20}))
    started = time.process_time()
    for _ in range(200):
        editor.edit("a" * 2000)
    assert time.process_time() - started < 2


def test_edits_apply_in_the_documented_order() -> None:
    parent = manifest(image("a.png", "x"), image("b.png", "y"), image("c.png", "z"))
    more = manifest(image("d.png", "cat"))
    edits = {
        "include": [{"dataset": "ds_2"}],
        "suffix": "!",
        "prefix": "a ",
        "add_tags": {"tags": ["dog"]},
        "remove_tags": ["toy"],
        "find_replace": [{"find": "cat", "replace": "toy, big"}],
        "captions": {"b.png": "cat", "c.png": None},
        "exclude": ["a.png"],
    }
    revision = apply(parent, {"ds_2": more}, **edits)
    captions = {one.name: one.caption for one in revision.manifest.images}
    assert captions == {"b.png": "a big, dog!", "c.png": "a dog!", "d.png": "cat"}


def test_texts_are_those_of_subjects() -> None:
    parent = manifest(image("a.png", "toy"), image("reg/1_toy/b.png", "toy", role="class"))
    assert [one.caption for one in apply(parent, prefix="zap ").manifest.images] == ["zap toy", "toy"]
    named = apply(parent, captions={"reg/1_toy/b.png": "a toy"}).manifest.images
    assert [one.caption for one in named] == ["toy", "a toy"]
    with pytest.raises(DatasetRejected, match="No image is left"):
        apply(parent, exclude=["a.png"])


def test_images_are_named_by_their_hash_too() -> None:
    parent = manifest(first := image("a.png"), image("b.png"))
    assert [one.name for one in apply(parent, exclude=[first.sha256, "a.png"]).manifest.images] == ["b.png"]


def test_included_images_stay_apart() -> None:
    parent = manifest(image("a.png"), image("b.png"))
    more = manifest(image("A.PNG"), image("a (2).png"), image("z.png", sha256=parent.images[1].sha256))
    revision = apply(parent, {"ds_2": more}, include=[{"dataset": "ds_2"}])
    assert [one.name for one in revision.manifest.images] == ["A (2).PNG", "a (2) (2).png", "a.png", "b.png"]
    assert [item.file for item in revision.left_out] == ["ds_2: z.png"]
    assert revision.notes == ("Revision of ds_1: 2 images included.",)
    with pytest.raises(DatasetRejected, match="has 6 images; the limit is 5"):
        apply(parent, {"ds_2": manifest(*(image(f"{n}.png") for n in range(4)))}, include=[{"dataset": "ds_2"}])


def test_a_box_of_the_whole_image_is_no_crop() -> None:
    parent, whole = manifest(image("a.png")), {"left": 0, "top": 0, "width": 64, "height": 32}
    with pytest.raises(InvalidRequest, match="change nothing"):
        apply(parent, crop={"a.png": whole})
    assert list(apply(parent, crop={"a.png": {**whole, "width": 63}}).boxes) == ["a.png"]
    for change in ({"left": 1}, {"top": 1}, {"width": 65}):
        with pytest.raises(InvalidRequest, match=r"not within a\.png, which has 64 x 32"):
            apply(parent, crop={"a.png": {**whole, **change}})
