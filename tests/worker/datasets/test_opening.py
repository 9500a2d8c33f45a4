"""A picture is what its bytes say, not its name; of several in one file the first is taken, and it is said."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.domain.image_formats import ACCEPTED, SUFFIXES, describe_unaccepted, recognise_format
from tests.fixtures.pictures import draw, encode
from tests.hostile.images import END, chunk
from tests.hostile.other_formats import plain, tiff
from tests.worker.datasets.test_images import CANARY, convert, reason_against

FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 100, "subsampling": 0},
    "WEBP": {"lossless": True},
    "HEIF": {"quality": 100, "chroma": 444},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "BMP": {},
    "TIFF": {},
    "GIF": {},
}


def difference(image: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(image.convert("RGB"), dtype=int) - np.asarray(other, dtype=int)).mean())


@pytest.mark.parametrize("kind", FORMATS)
def test_every_accepted_format_is_recognised_and_read(kind: str, tmp_path: Path) -> None:
    data = encode(draw(3), kind, **FORMATS[kind])
    assert recognise_format(data[:256]) == kind
    picture, image, _ = convert(data, tmp_path)

    assert (picture.width, picture.height, picture.masked, picture.notes) == (48, 40, False, ())
    assert difference(image, draw(3)) < 3


def test_formats_are_named_as_they_are_accepted() -> None:
    named = ACCEPTED.replace("HEIC", "HEIF").replace(" or", ",").upper().split(", ")
    assert named == list(SUFFIXES)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "packbits"}),
        ("TIFF", {"compression": "jpeg", "quality": 100}),
        ("TIFF", {"compression": "zstd"}),
        ("TIFF", {"big_tiff": True}),
        ("TIFF", {"strip_size": 64}),
    ],
)
def test_kinds_of_tiff(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    data = encode(draw(3), kind, **options)

    assert recognise_format(data[:256]) == kind
    assert difference(convert(data, tmp_path)[1], draw(3)) < 3


def halves(left: tuple[int, ...], right: tuple[int, ...], kind: str) -> bytes:
    """64 x 64 samples."""
    row = np.array([left] * 32 + [right] * 32, dtype=kind).tobytes()
    return row * 64


TIFFS: dict[str, tuple[bytes, tuple[int, ...], tuple[int, ...], dict[str, tuple[int, ...]]]] = {
    "grey": (halves((10,), (200,), "u1"), (10, 10, 10), (200, 200, 200), {}),
    "grey, white at 0": (halves((10,), (200,), "u1"), (245, 245, 245), (55, 55, 55), {"photometric": (0,)}),
    "grey of 16 bits": (halves((0x1000,), (0xF000,), "<u2"), (16, 16, 16), (240, 240, 240), {"bits": (16,)}),
    "grey of 16 bits, white at 0": (
        halves((0x1000,), (0xF000,), "<u2"), (239, 239, 239), (15, 15, 15), {"bits": (16,), "photometric": (0,)},
    ),
    "colours of 16 bits": (
        halves((0x1234, 0x8000, 0xFFFF), (0, 0, 0), "<u2"), (18, 128, 255), (0, 0, 0),
        {"bits": (16, 16, 16), "samples": (3,), "photometric": (2,)},
    ),
    "colours beside a fourth sample that says nothing": (
        halves((10, 20, 30, 0), (1, 2, 3, 0), "u1"), (10, 20, 30), (1, 2, 3),
        {"bits": (8,) * 4, "samples": (4,), "photometric": (2,), "extra": (0,)},
    ),
    "inks of 16 bits": (
        halves((0xFFFF, 0, 0, 0), (0, 0, 0, 0), "<u2"), (0, 255, 255), (255, 255, 255),
        {"bits": (16,) * 4, "samples": (4,), "photometric": (5,)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", TIFFS)
def test_samples_of_a_tiff(what: str, tmp_path: Path) -> None:
    data, left, right, tags = TIFFS[what]
    picture, image, _ = convert(tiff(plain(counts=(len(data),), **tags), data), tmp_path)

    assert not picture.masked
    assert (image.getpixel((3, 3)), image.getpixel((60, 3))) == (left, right)


def test_of_a_kind_that_cannot_be_read_it_is_not_said_that_it_is_broken_for_sure(tmp_path: Path) -> None:
    data = halves((0, 0, 0), (1, 1, 1), "<f4")
    tags = plain(counts=(len(data),), bits=(32,) * 3, samples=(3,), photometric=(2,), format=(3,) * 3)
    assert "or a variant of TIFF that is not supported" in reason_against(tiff(tags, data), tmp_path)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "GIF", "HEIF", "AVIF"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_modes_of_the_other_formats(kind: str, mode: str, tmp_path: Path) -> None:
    image = draw(3).quantize(16) if mode == "P" else draw(3).convert(mode)
    written = convert(encode(image, kind), tmp_path)[1]

    assert difference(written, image.convert("RGB")) < 12


def test_a_bmp_from_the_bottom_to_the_top_and_the_other_way(tmp_path: Path) -> None:
    data = bytearray(encode(draw(3), "BMP"))
    rows = bytes(data[54:])
    stride = len(rows) // 40
    data[22:26] = struct.pack("<l", -40)
    data[54:] = b"".join(rows[at : at + stride] for at in range(len(rows) - stride, -1, -stride))

    assert difference(convert(bytes(data), tmp_path)[1], draw(3)) == 0


def bmp_with_alpha(alpha: int) -> bytes:
    """BITMAPV4HEADER with masks, as screenshots have it."""
    pixels = np.dstack([np.asarray(draw(3))[::-1, :, ::-1], np.full((40, 48, 1), alpha, np.uint8)]).tobytes()
    masks = struct.pack("<4L", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<LllHHLLllLL", 108, 48, 40, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks
    head = head.ljust(108, b"\0")
    return struct.pack("<2sLHHL", b"BM", 14 + 108 + len(pixels), 0, 0, 14 + 108) + head + pixels


def test_a_bmp_whose_fourth_byte_was_left_at_zero_is_no_empty_picture(tmp_path: Path) -> None:
    picture, image, _ = convert(bmp_with_alpha(0), tmp_path)

    assert not picture.masked
    assert difference(image, draw(3)) == 0


def test_a_bmp_with_a_true_alpha_channel_keeps_it(tmp_path: Path) -> None:
    picture, image, _ = convert(bmp_with_alpha(128), tmp_path)

    assert picture.masked
    assert image.getpixel((5, 5))[3] == 128


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_alpha_of_phones_formats(kind: str, tmp_path: Path) -> None:
    image = draw(3).convert("RGBA")
    image.putalpha(Image.new("L", image.size, 255))
    image.paste((0, 0, 0, 0), (0, 0, 24, 40))
    picture, written, _ = convert(encode(image, kind, **FORMATS[kind]), tmp_path)

    assert picture.masked
    assert written.getpixel((4, 4)) == (255, 255, 255, 0)
    assert written.getpixel((40, 20))[3] == 255


@pytest.mark.parametrize("kind", ["TIFF", "HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(kind: str, orientation: int, tmp_path: Path) -> None:
    """HEIC and AVIF turn by their own boxes, and Pillow turns a TIFF as it loads: not a second time by the EXIF."""
    upright = Image.new("RGB", (64, 32), "black")
    upright.paste("white", (0, 0, 16, 16))
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(turns[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation

    _, image, _ = convert(encode(stored, kind, exif=exif.tobytes() if kind != "TIFF" else exif), tmp_path)

    assert image.size == (64, 32)
    assert image.getpixel((3, 3)) >= (200, 200, 200)
    assert image.getpixel((60, 28)) <= (50, 50, 50)


# --- several pictures in one file --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "AVIF", "HEIF"])
def test_the_first_of_several_is_taken_and_it_is_said(kind: str, tmp_path: Path) -> None:
    data = encode(draw(1), kind, save_all=True, append_images=[draw(2), draw(4)], **FORMATS[kind])
    picture, image, _ = convert(data, tmp_path)

    assert picture.notes == ("first-frame",)
    assert difference(image, draw(1)) < 3


def test_of_a_heic_the_primary_picture_is_taken(tmp_path: Path) -> None:
    data = encode(draw(1), "HEIF", save_all=True, append_images=[draw(2)], primary_index=1, **FORMATS["HEIF"])

    assert difference(convert(data, tmp_path)[1], draw(2)) < 3


def test_nothing_is_said_of_the_second_picture_in_a_phones_jpeg(tmp_path: Path) -> None:
    data = encode(draw(1), "MPO", save_all=True, append_images=[draw(2)])

    assert convert(data, tmp_path)[0].notes == ()


# --- what a PNG says at length -------------------------------------------------------------------------------


def with_chunks(*chunks: bytes) -> bytes:
    whole = encode(draw(1))
    return whole[:33] + b"".join(chunks) + whole[33:]


LONG = b"A long history of edits. " * 200_000
SAYING: dict[str, bytes] = {
    "a compressed text of 5 MB": with_chunks(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG))),
    "XMP of 5 MB": with_chunks(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + LONG)),
    "compressed XMP of 5 MB": with_chunks(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG))),
    "a plain text of 5 MB": with_chunks(chunk(b"tEXt", b"Comment\0" + LONG)),
    "80 texts of a megabyte": with_chunks(*[chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000)))] * 80),
    "a text of zeros, 80 MiB": with_chunks(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 << 20), 9))),
    "a prompt of some kilobytes": with_chunks(chunk(b"tEXt", b"parameters\0" + b"a cat, " * 900)),
    "texts behind its pixels": encode(draw(1))[:-12] + chunk(b"zTXt", b"C\0\0" + zlib.compress(LONG)) + END,
}


@pytest.mark.parametrize("what", SAYING)
def test_a_png_is_whole_however_much_it_says(what: str, tmp_path: Path) -> None:
    picture, image, _ = convert(SAYING[what], tmp_path)

    assert image.tobytes() == draw(1).tobytes()
    assert picture.notes == ()


def test_the_orientation_of_a_png_counts_beside_a_long_text(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encode(draw(1), exif=exif.tobytes())
    data = whole[:33] + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG)) + whole[33:]

    assert convert(data, tmp_path)[1].size == (40, 48)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "TIFF", "GIF"])
def test_what_the_other_formats_say_is_not_kept(kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = CANARY.decode()
    said: dict[str, Any] = (
        {"comment": CANARY} if kind == "GIF" else {"exif": exif if kind == "TIFF" else exif.tobytes()}
    )
    data = encode(draw(1), kind, **said)
    assert CANARY in data

    assert CANARY not in convert(data, tmp_path)[2]


# --- what is not accepted ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "It is empty"),
        (b"\xff\x0a" + bytes(60), "a JPEG XL image"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
        (b"%PDF-1.7", "a PDF document"),
        (b"\0\0\0\x20ftypmp42\0\0\0\0mp42isom", "a video"),
        (b"\x1aE\xdf\xa3", "a video"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><svg/>", "an SVG drawing"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\0\x05\x16\x07\0\2\0\0Mac OS X", "AppleDouble"),
        (b"hello", "not an image"),
    ],
)
def test_a_refusal_says_what_the_file_is_and_what_is_accepted(head: bytes, words: str) -> None:
    assert recognise_format(head) is None
    said = describe_unaccepted(head)
    assert words in said
    assert not head or all(name in said for name in ("PNG", "JPEG", "WebP", "HEIC", "AVIF", "BMP", "TIFF", "GIF"))


def test_brands_tell_heic_from_avif_and_both_from_video() -> None:
    def ftyp(major: bytes, *others: bytes) -> bytes:
        box = b"ftyp" + major + bytes(4) + b"".join(others)
        return struct.pack(">L", len(box) + 4) + box

    assert recognise_format(ftyp(b"mif1", b"mif1", b"heic")) == "HEIF"
    assert recognise_format(ftyp(b"heic", b"mif1")) == "HEIF"
    assert recognise_format(ftyp(b"mif1", b"avif", b"miaf")) == "AVIF"
    assert recognise_format(ftyp(b"avis", b"msf1")) == "AVIF"
    assert recognise_format(ftyp(b"isom", b"mp41")) is None
    assert recognise_format(ftyp(b"isom") + b"heic") is None, "what lies behind the box is not in it"


def test_a_file_is_closed_after_it_was_read(tmp_path: Path) -> None:
    for kind in FORMATS:
        (tmp_path / "source").write_bytes(encode(draw(1), kind))
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            convert((tmp_path / "source").read_bytes(), tmp_path)[1].close()
        assert len(list(Path("/proc/self/fd").iterdir())) <= before, kind
