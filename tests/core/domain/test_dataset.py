"""The rules of captions, buckets and reports."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.dataset import (
    Bucket,
    DatasetManifest,
    LeftOut,
    ManifestImage,
    choose_bucket,
    clean_caption,
    list_buckets,
    list_cut_sides,
    write_report,
)


def image(
    name: str, *, dhash: str = "0", caption: str | None = "x", side: int = 64, sharpness: float = 99
) -> ManifestImage:
    return ManifestImage(
        name=name, key=name, sha256=name, size=1, width=side, height=side, caption=caption,
        dhash=dhash, sharpness=sharpness,
    )  # fmt: skip


@given(st.text())
def test_any_text_becomes_one_line_or_nothing(text: str) -> None:
    caption = clean_caption(text)
    assert caption is None or (caption == " ".join(caption.split()) and "\x00" not in caption)


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([(64, 8), (512, 64), (768, 64), (1024, 64)]))
def test_a_bucket_has_the_area_and_the_step(width: int, height: int, size: tuple[int, int]) -> None:
    resolution, step = size
    bucket = choose_bucket(width, height, resolution, step)
    assert bucket.width * bucket.height <= resolution**2
    assert bucket.width % step == bucket.height % step == 0
    assert bucket in list_buckets(resolution, step)


def test_a_square_stays_square_and_a_portrait_a_portrait() -> None:
    assert choose_bucket(700, 700, 512, 64).width == 512
    tall = choose_bucket(600, 900, 512, 64)
    assert (tall.width, tall.height) == (384, 576) or tall.height > tall.width


def test_the_report_warns_of_what_spoils_a_training() -> None:
    manifest = DatasetManifest(
        images=(
            image("a", dhash="ff00"),
            image("b", dhash="ff01", caption=None),
            image("c", dhash="abcdef0123456789", side=32, sharpness=1),
        )
    )
    report = write_report(5, manifest, [LeftOut(file="d.png", reason="broken")], ["e.txt"])
    assert {warning.code: warning.files for warning in report.warnings} == {
        "few-images": ("a", "b", "c"),
        "near-duplicates": ("a", "b"),
        "blurry": ("c",),
        "small-images": ("c",),
        "missing-captions": ("b",),
        "unused-captions": ("e.txt",),
        "left-out": ("d.png",),
    }
    assert (report.num_files, report.num_images) == (5, 3)


def test_a_good_set_gets_no_warning() -> None:
    hashes = ["0000000000000000", "00000000000000ff", "000000000000ffff", "0000000000ffffff", "00000000ffffffff"]
    manifest = DatasetManifest(images=tuple(image(str(n), dhash=h) for n, h in enumerate(hashes)))
    assert write_report(5, manifest, [], []).warnings == ()


def test_a_set_is_as_large_as_its_subjects_and_class_images_need_no_caption_of_the_job() -> None:
    hashes = ["0000000000000000", "00000000000000ff", "000000000000ffff", "0000000000ffffff"]
    subjects = tuple(image(str(n), dhash=h) for n, h in enumerate(hashes))
    other = image("reg/x", dhash="00000000ffffffff", caption=None).model_copy(update={"role": "class"})
    report = write_report(5, DatasetManifest(images=(*subjects, other)), [], [], notes=["what was understood"])
    assert [(warning.code, len(warning.files)) for warning in report.warnings] == [("few-images", 4)]
    assert report.notes == ("what was understood",)


def test_captions_that_no_encoder_is_given_whole_are_named() -> None:
    fits, cut = image("a", caption="word " * 225), image("b", caption="word " * 226, dhash="ffff")
    report = write_report(2, DatasetManifest(images=(fits, cut)), [], [])
    assert {warning.code: warning.files for warning in report.warnings}["many-tokens"] == ("b",)


def test_the_content_hash_follows_role_and_repeats_where_there_are_any() -> None:
    plain = image("a")
    hashes = {
        DatasetManifest(images=(plain.model_copy(update=update),)).content_hash()
        for update in ({}, {"repeats": 2}, {"role": "class"})
    }
    assert len(hashes) == 3
    assert DatasetManifest(images=(plain,)).content_hash() == hashlib.sha256(b'[["a","a","x"]]').hexdigest()


def test_the_content_hash_follows_pixels_and_captions() -> None:
    one, two = DatasetManifest(images=(image("a"),)), DatasetManifest(images=(image("a", caption="y"),))
    assert one.content_hash() == DatasetManifest(images=(image("a"),)).content_hash() != two.content_hash()


@pytest.mark.parametrize(
    ("size", "bucket", "cut"),
    [((640, 360), (640, 360), (0, 0)), ((800, 400), (64, 64), (0.5, 0)), ((300, 400), (64, 64), (0, 0.25))],
)
def test_what_is_cropped_away(size: tuple[int, int], bucket: tuple[int, int], cut: tuple[float, float]) -> None:
    width, height = bucket
    assert list_cut_sides(*size, Bucket(width=width, height=height)) == pytest.approx(cut)
