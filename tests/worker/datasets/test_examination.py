"""Every file is accounted for: in the manifest, or left out with a reason."""

import hashlib
import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from core.db.dataset_claims import ReceivedFile
from core.domain.artifacts import image_key, upload_key
from core.domain.errors import ArchiveRejected, DatasetRejected, UserError
from core.storage import MemoryStorage
from tests.fixtures.pictures import draw, encode, png
from tests.worker.datasets.hostile import tar_of, zip_of
from worker.datasets import examination
from worker.datasets.archives import NOT_USABLE
from worker.datasets.examination import Examination
from worker.datasets.findings import Findings
from worker.datasets.images import ConvertedImage
from worker.datasets.sandbox import DecoderDied, Sandbox

Examine = Callable[..., Findings]


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def examine(storage: MemoryStorage, sandbox: Sandbox, tmp_path: Path) -> Examine:
    def run(files: dict[str, bytes], max_images: int = 100) -> Findings:
        work = tmp_path / "work"
        work.mkdir()
        examination = Examination("ds_1", storage, sandbox, work, max_images=max_images, check=lambda: None)
        examination.run(receive(storage, files))
        return examination.findings

    return run


def receive(storage: MemoryStorage, files: dict[str, bytes]) -> list[ReceivedFile]:
    received = []
    for number, (name, data) in enumerate(files.items()):
        stored = storage.put(upload_key("ds_1", str(number)), data)
        received.append(ReceivedFile(name, stored.key, stored.sha256, stored.size))
    return received


def refusal(examine: Examine, files: dict[str, bytes], kind: type[UserError] = DatasetRejected, **options: int) -> str:
    with pytest.raises(kind) as refused:
        examine(files, **options)
    return refused.value.detail


def names(findings: Findings) -> list[str]:
    return [image.name for image in findings.images]


def test_loose_files(examine: Examine, storage: MemoryStorage) -> None:
    findings = examine({"b.png": png(1), "a.jpg": encode(draw(2), "JPEG"), "b.txt": b"a  blip\n", "a.txt": b""})

    assert [(image.name, image.caption) for image in findings.images] == [("a.jpg", None), ("b.png", "a blip")]
    for image in findings.images:
        stored = storage.read(image.key)
        assert image.key == image_key("ds_1", image.sha256)
        assert (hashlib.sha256(stored).hexdigest(), len(stored)) == (image.sha256, image.size)
        assert (image.width, image.height) == (48, 40)
    assert findings.left_out == []
    assert findings.num_files == 4


@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_an_archive_alone(examine: Examine, make: Callable[..., bytes]) -> None:
    suffix = "zip" if make is zip_of else "tar"
    rows = json.dumps({"file_name": "c.png", "text": "third"}).encode()
    findings = examine(
        {
            f"set.{suffix}": make(
                ("blip/a.png", png(1)),
                ("blip/a.txt", b"first"),
                ("blip/b.webp", encode(draw(2), "WEBP")),
                ("blip/c.png", png(3)),
                ("blip/metadata.jsonl", rows),
                ("blip/.DS_Store", b"x"),
            )
        }
    )

    assert {image.name: image.caption for image in findings.images} == {
        "blip/a.png": "first",
        "blip/b.webp": None,
        "blip/c.png": "third",
    }
    assert findings.num_files == 5


def test_several_archives_and_loose_files_keep_apart(examine: Examine) -> None:
    files = {
        "one.zip": zip_of(("a.png", png(1)), ("a.txt", b"first")),
        "two.tar": tar_of(("a.png", png(2)), ("a.txt", b"second")),
        "a.png": png(3),
    }
    findings = examine(files)

    assert {image.name: image.caption for image in findings.images} == {
        "one.zip/a.png": "first",
        "two.tar/a.png": "second",
        "a.png": None,
    }


def test_one_broken_image_among_good_ones_is_left_out_with_its_reason(examine: Examine) -> None:
    files = {f"{number}.png": png(number) for number in range(6)}
    files |= {"broken.png": png(9)[:80], "text.png": b"no picture", "notes.doc": b"x", "small.png": png(8, 12, 90)}
    findings = examine(files)

    assert names(findings) == [f"{number}.png" for number in range(6)]
    assert {item.file: item.reason.split(":")[0].rstrip(".") for item in findings.left_out} == {
        "broken.png": "It is broken or cut short",
        "text.png": "It is not an image, or one in an unsupported format. Export it as PNG or JPEG; "
        "WebP, HEIC, AVIF, BMP, TIFF and GIF are accepted too, whatever their names",
        "notes.doc": NOT_USABLE.rstrip("."),
        "small.png": "It has 12 x 90 pixels",
    }
    report = findings.report()
    assert (report.num_files, report.num_images, len(report.left_out)) == (10, 6, 4)


@pytest.mark.parametrize("packed", [False, True])
def test_a_picture_is_one_whatever_its_name_says(examine: Examine, packed: bool) -> None:
    """As browsers and chats save them."""
    jpeg, heic = encode(draw(2), "JPEG"), encode(draw(4), "HEIF")
    files = {"photo": png(1), "photo.txt": b"a caption", "x.jpg_large": jpeg, "y.dat": png(3), "z.png": heic}
    files[".png"] = png(5)
    findings = examine({"set.zip": zip_of(*files.items())} if packed else files)

    assert {image.name: image.caption for image in findings.images} == {
        "photo": "a caption", "x.jpg_large": None, "y.dat": None, "z.png": None, ".png": None,
    }  # fmt: skip
    assert findings.left_out == []


def test_duplicates_are_left_out_whatever_they_came_in(examine: Examine) -> None:
    files = {"a.png": png(1), "b.webp": encode(draw(1), "WEBP", lossless=True), "c.png": png(1), "d.png": png(2)}
    findings = examine(files)

    assert names(findings) == ["a.png", "d.png"]
    assert {item.file: item.reason for item in findings.left_out} == {
        "b.webp": "It has exactly the same pixels as a.png.",
        "c.png": "It has exactly the same pixels as a.png.",
    }


def test_captions_that_are_no_captions(examine: Examine) -> None:
    files = {"a.png": png(1), "a.txt": b"x" * 70_000, "metadata.jsonl": b"nonsense", "stray.txt": b"x"}
    findings = examine(files)

    assert findings.images[0].caption is None
    assert findings.unused_captions == ["stray.txt"]
    assert {item.file: item.reason for item in findings.left_out} == {
        "a.txt": "It is larger than 65,536 bytes, too large for a caption.",
        "metadata.jsonl": "line 1 is not a JSON object with the strings file_name and text (or caption, or prompt).",
    }


def test_litter_is_not_mentioned(examine: Examine) -> None:
    findings = examine({".DS_Store": b"x", "Thumbs.db": b"x", "a.png": png(1)})

    assert (findings.num_files, findings.left_out) == (1, [])


# --- rejected ------------------------------------------------------------------------------------------


def test_an_empty_archive(examine: Examine) -> None:
    assert refusal(examine, {"set.zip": zip_of()}).startswith("The set contains no file. Upload PNG,")


def test_no_image_in_it(examine: Examine) -> None:
    detail = refusal(examine, {"set.zip": zip_of(("a.txt", b"x"), ("b.pdf", b"x"))})

    assert detail.startswith("None of its 2 files is an image. Upload PNG,")


def test_its_only_file_is_not_an_image(examine: Examine) -> None:
    assert refusal(examine, {"a.zip": zip_of(("b.pdf", b"x"))}).startswith("Its only file is not an image. Upload PNG,")


def test_no_usable_image_says_why(examine: Examine) -> None:
    detail = refusal(examine, {"a.png": b"text", "b.png": b"", "c.png": png(1, 8, 8), "d.png": b"x"})

    assert detail.startswith("None of its 4 images can be used. a.png: It is not an image")
    assert "c.png: It has 8 x 8 pixels" in detail
    assert "d.png" not in detail


def test_its_only_image_cannot_be_used(examine: Examine) -> None:
    assert refusal(examine, {"a.png": b"text"}).startswith("Its only image cannot be used. a.png: It is not an image")


def test_too_many_images(examine: Examine) -> None:
    detail = refusal(examine, {f"{number}.png": png(number) for number in range(4)}, max_images=3)

    assert detail == "The set has 4 images; the limit is 3. Remove some, or split it."


def test_a_hostile_archive_is_named(examine: Examine) -> None:
    files = {"good.png": png(1), "bad.zip": zip_of(("../x.png", b"x"))}

    assert refusal(examine, files, ArchiveRejected).startswith("bad.zip: It contains a path that leads out")


def test_a_text_file_named_zip(examine: Examine) -> None:
    detail = refusal(examine, {"set.zip": b"hello"}, ArchiveRejected)

    assert detail == "set.zip: It is not a ZIP archive, despite its name. Create it again, or rename it."


def test_a_lost_upload(storage: MemoryStorage, sandbox: Sandbox, tmp_path: Path) -> None:
    received = receive(storage, {"a.png": png(1)})
    storage.delete(received[0].key)
    examination = Examination("ds_1", storage, sandbox, tmp_path, max_images=9, check=lambda: None)

    with pytest.raises(DatasetRejected, match=r"a\.png is no longer in storage"):
        examination.run(received)


def test_a_changed_upload(storage: MemoryStorage, sandbox: Sandbox, tmp_path: Path) -> None:
    received = receive(storage, {"a.png": png(1)})
    storage.put(received[0].key, png(2))
    examination = Examination("ds_1", storage, sandbox, tmp_path, max_images=9, check=lambda: None)

    with pytest.raises(DatasetRejected, match=r"a\.png changed since"):
        examination.run(received)


def test_archives_may_together_hold_no_more_than_one(examine: Examine) -> None:
    """The tests' decoder unpacks 4 MiB."""
    rng = random.Random(0)
    files = {
        f"{n}.zip": zip_of(*((f"{i}.png", rng.randbytes(900_000)) for i in range(3)), method=zipfile.ZIP_STORED)
        for n in range(2)
    }

    assert refusal(examine, files, ArchiveRejected) == (
        "1.zip: With it the archives hold more than 4,194,304 bytes. Split the set."
    )


def test_archives_may_together_have_so_many_files(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "MAX_FILES", 5)
    files = {f"{n}.tar": tar_of(*((f"{i}.txt", b"x") for i in range(3))) for n in range(2)}

    assert "more than 5 files" in refusal(examine, files, ArchiveRejected)


def test_captions_may_together_have_so_many_bytes(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "MAX_CAPTIONS_BYTES", 100)
    findings = examine({"a.png": png(1), "a.txt": b"a" * 60, "b.png": png(2), "b.txt": b"b" * 60})

    assert [image.caption for image in findings.images] == ["a" * 60, None]
    assert [(item.file, item.reason) for item in findings.left_out] == [
        ("b.txt", "All captions together are larger than 100 bytes.")
    ]


# --- the decoder's deaths ---------------------------------------------------------------------------------


class MortalSandbox(Sandbox):
    """A real one whose decoder dies over the pictures of a given size."""

    def __init__(self, real: Sandbox, deadly_bytes: int) -> None:
        self._real, self._deadly_bytes = real, deadly_bytes

    def convert(
        self, source: Path, target: Path, mask: Path | None = None, thumbnail: Path | None = None
    ) -> ConvertedImage:
        if source.stat().st_size == self._deadly_bytes:
            raise DecoderDied("it took too long")
        return self._real.convert(source, target, mask, thumbnail)

    def expand(self, archive: Path, filename: str, folder: Path):
        raise DecoderDied("it took too long")


def test_a_picture_that_kills_the_decoder_is_left_out(storage: MemoryStorage, sandbox: Sandbox, tmp_path: Path) -> None:
    deadly = png(7, 100, 100)
    files = receive(storage, {"a.png": png(1), "b.png": deadly, "c.png": png(2)})
    work = Examination("ds_1", storage, MortalSandbox(sandbox, len(deadly)), tmp_path, max_images=9, check=lambda: None)
    work.run(files)

    assert names(work.findings) == ["a.png", "c.png"]
    assert work.findings.left_out[0].reason == "Opening it takes too long or too much memory: make it smaller."


def test_too_many_deaths_reject_the_set(storage: MemoryStorage, sandbox: Sandbox, tmp_path: Path) -> None:
    deadly = png(7, 100, 100)
    pictures = {f"{number:02d}.png": deadly for number in range(examination.MAX_DECODER_DEATHS)}
    work = Examination(
        "ds_1", storage, MortalSandbox(sandbox, len(deadly)), tmp_path, max_images=99, check=lambda: None
    )

    with pytest.raises(DatasetRejected, match="20 of its images take too long"):
        work.run(receive(storage, {**pictures, "z.png": png(1)}))


def test_an_archive_that_kills_the_decoder_is_rejected(
    storage: MemoryStorage, sandbox: Sandbox, tmp_path: Path
) -> None:
    work = Examination("ds_1", storage, MortalSandbox(sandbox, 0), tmp_path, max_images=9, check=lambda: None)

    with pytest.raises(ArchiveRejected, match=r"set\.zip: Unpacking it takes too long or too much memory"):
        work.run(receive(storage, {"set.zip": zip_of()}))


def test_scratch_is_given_back_as_it_goes(examine: Examine, tmp_path: Path) -> None:
    examine({"set.tar": tar_of(*((f"{number}.png", png(number)) for number in range(5))), "a.png": png(9)})

    assert [path for path in (tmp_path / "work").rglob("*") if path.is_file()] == []


def test_a_picture_that_is_named_as_a_caption_is_not_read_as_one(examine: Examine) -> None:
    findings = examine({"a.png": png(1), "a.txt": png(2)})
    assert findings.images[0].caption is None
    assert {item.file: item.reason for item in findings.left_out} == {
        "a.txt": "It is an image, but named as a caption: give it an image's suffix."
    }


def test_a_mask_file_becomes_its_images_alpha(examine: Examine, storage: MemoryStorage) -> None:
    mask = Image.new("L", draw(1).size)
    mask.paste(255, (0, 0, mask.width // 2, mask.height))
    findings = examine({"a.png": png(1), "a.mask.png": encode(mask), "b.png": png(2), "c.mask.png": encode(mask)})
    masked, plain = findings.images
    assert (masked.name, masked.masked, plain.name, plain.masked) == ("a.png", True, "b.png", False)
    assert [item.file for item in findings.left_out] == ["c.mask.png"]
    with Image.open(io.BytesIO(storage.read(masked.key))) as stored:
        assert stored.mode == "RGBA"
        assert (stored.getpixel((0, 0))[3], stored.getpixel((stored.width - 1, 0))[3]) == (255, 0)
        assert stored.convert("RGB").tobytes() == draw(1).convert("RGB").tobytes()


def test_an_alpha_channel_that_becomes_a_mask_is_reported(examine: Examine) -> None:
    clear = draw(1).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    opaque, masked_by_file = draw(2).convert("RGBA"), encode(Image.linear_gradient("L").resize(draw(3).size))
    findings = examine({"a.png": encode(clear), "b.png": encode(opaque), "c.png": png(3), "c.mask.png": masked_by_file})
    assert [image.masked for image in findings.images] == [True, False, True]
    [warning] = [one for one in findings.report().warnings if one.code == "alpha-mask"]
    assert warning.files == ("a.png",)
    assert "does not count in training" in warning.message


def test_a_mask_of_another_shape_leaves_its_image_out_with_the_reason(examine: Examine) -> None:
    findings = examine({"a.png": png(1), "a.mask.png": encode(Image.new("L", (99, 20), 255)), "b.png": png(2)})
    assert names(findings) == ["b.png"]
    assert "mask has 99 x 20 pixels" in findings.left_out[0].reason


def test_an_image_that_hides_all_of_itself_is_left_out(examine: Examine) -> None:
    findings = examine({"a.png": encode(Image.new("RGBA", (64, 64), (9, 9, 9, 0))), "b.png": png(2)})
    assert names(findings) == ["b.png"]
    assert "hides all" in findings.left_out[0].reason


# --- layouts of other trainers ------------------------------------------------------------------------------


def test_kohyas_folders_give_repeats_class_and_role(examine: Examine) -> None:
    findings = examine(
        {
            "set.zip": zip_of(
                ("img/10_blip toy/a.png", png(1)),
                ("img/10_blip toy/b.png", png(2)),
                ("img/10_blip toy/b.caption", b"a red blip"),
                ("reg/1_toy/c.png", png(3)),
            )
        }
    )

    assert [(image.name, image.caption, image.role, image.repeats) for image in findings.images] == [
        ("img/10_blip toy/a.png", "blip toy", "subject", 10),
        ("img/10_blip toy/b.png", "a red blip", "subject", 10),
        ("reg/1_toy/c.png", "toy", "class", 1),
    ]
    report = findings.report()
    assert len(report.notes) == 2 and "10 repeats" in report.notes[0] and "regularisation" in report.notes[1]
    assert "missing-captions" not in {warning.code for warning in report.warnings}


def test_onetrainers_mask_becomes_its_images_alpha(examine: Examine) -> None:
    mask = Image.new("L", draw(1).size)
    mask.paste(255, (0, 0, mask.width // 2, mask.height))
    findings = examine({"a.png": png(1), "a-masklabel.png": encode(mask), "a-condlabel.png": png(5), "b.png": png(2)})

    assert [(image.name, image.masked) for image in findings.images] == [("a.png", True), ("b.png", False)]
    assert [item.file for item in findings.left_out] == ["a-condlabel.png"]


def test_a_set_of_regularisation_images_alone_is_rejected(examine: Examine) -> None:
    detail = refusal(examine, {"set.zip": zip_of(("reg/1_toy/a.png", png(1)), ("reg/1_toy/b.png", png(2)))})

    assert detail.startswith("All of its images are for regularisation by their folder (reg/1_toy)")


def test_unused_captions_are_reported(examine: Examine) -> None:
    rows = b'{"file_name": "gone.png", "text": "x"}\n{"file_name": "b", "text": "found"}\n'
    findings = examine(
        {"a.png": png(1), "a.txt": "кот на столе".encode("cp1251"), "b.png": png(2), "metadata.jsonl": rows}
    )

    assert [image.caption for image in findings.images] == ["кот на столе", "found"]
    warned = {warning.code: warning.files for warning in findings.report().warnings}
    assert warned["caption-encoding"] == ("a.txt",)
    assert warned["unmatched-rows"] == ("metadata.jsonl, line 1: gone.png (no image of the set has this path)",)
    assert warned["guessed-rows"] == ("metadata.jsonl, line 2: b -> b.png",)
