"""Colours are what the picture's own profile says they are, whatever mode and format it comes in."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.fixtures.pictures import draw, encode
from tests.fixtures.profiles import DISPLAY_P3, SRGB, grey_profile, ink_profile, rgb_profile
from tests.hostile.images import END, chunk, header, png_of
from tests.worker.datasets.test_images import convert

P3 = rgb_profile(DISPLAY_P3)
ORANGE, ORANGE_IN_P3 = (255, 128, 0), (239, 135, 51)
SWAPPED = rgb_profile((SRGB[2], SRGB[1], SRGB[0]))
"""Whose first channel is blue and whose last is red: no reader who uses it can be mistaken for one who does not."""
# Cyan shows as yellow, and so on: the profile's, not any program's own idea of CMYK.
INKS = ink_profile({"C": (255, 255, 0), "M": (255, 0, 255), "Y": (0, 255, 255), "K": (0, 0, 0)})


def colour_of(data: bytes, tmp_path: Path) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """In the middle, as RGB, and what is to be said of the picture."""
    picture, image, _ = convert(data, tmp_path)
    assert "icc_profile" not in image.info
    return image.convert("RGB").getpixel((image.width // 2, image.height // 2)), picture.notes


def plain(mode: str, colour: Any) -> Image.Image:
    return Image.new(mode, (32, 32), colour)


def near(colour: tuple[int, ...], expected: tuple[int, ...], within: int = 2) -> bool:
    return int(np.abs(np.subtract(colour, expected)).max()) <= within


@pytest.mark.parametrize(
    ("kind", "options", "within"),
    [
        ("PNG", {}, 1),
        ("JPEG", {"quality": 100, "subsampling": 0}, 3),
        ("WEBP", {"lossless": True}, 1),
        ("HEIF", {"quality": 100, "chroma": 444}, 4),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 4),
        ("TIFF", {}, 1),
        ("TIFF", {"compression": "tiff_lzw"}, 1),
    ],
)
def test_a_display_p3_photo_keeps_its_colours_in_every_format(
    kind: str, options: dict[str, Any], within: int, tmp_path: Path
) -> None:
    data = encode(plain("RGB", ORANGE_IN_P3), kind, icc_profile=P3, **options)
    colour, notes = colour_of(data, tmp_path)

    assert near(colour, ORANGE, within)
    assert notes == ()


def as_palette(image: Image.Image) -> Image.Image:
    return image.quantize(2)


MODES = {
    "RGB": (encode(plain("RGB", (200, 100, 10)), icc_profile=SWAPPED), (10, 100, 200)),
    "RGBA": (encode(plain("RGBA", (200, 100, 10, 255)), icc_profile=SWAPPED), (10, 100, 200)),
    "palette": (encode(as_palette(plain("RGB", (200, 100, 10))), icc_profile=SWAPPED), (10, 100, 200)),
    # 100 of 255 at a gamma of 1.8 has the light of 119 in sRGB.
    "grey": (encode(plain("L", 100), icc_profile=grey_profile(1.8)), (119, 119, 119)),
    "grey with alpha": (encode(plain("LA", (100, 255)), icc_profile=grey_profile(1.8)), (119, 119, 119)),
    "grey of 16 bits": (
        encode(Image.fromarray(np.full((32, 32), 100 * 257, np.uint16)), icc_profile=grey_profile(1.8)),
        (119, 119, 119),
    ),
    "grey with a profile of colours": (
        encode(plain("L", 100), "JPEG", quality=100, icc_profile=rgb_profile(SRGB, [1.8])),
        (119, 119, 119),
    ),
    "CMYK JPEG": (
        encode(plain("CMYK", (255, 0, 0, 0)), "JPEG", quality=100, icc_profile=INKS),
        (255, 255, 0),
    ),
    "CMYK TIFF": (encode(plain("CMYK", (0, 255, 0, 0)), "TIFF", icc_profile=INKS), (255, 0, 255)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_converted_by_its_profile(mode: str, tmp_path: Path) -> None:
    data, expected = MODES[mode]
    colour, notes = colour_of(data, tmp_path)

    assert near(colour, expected, 8)  # black point compensation and tables of 8 bits move dark inks a little
    assert notes == ()


def test_transparent_parts_are_white_and_the_mask_stays_when_there_is_a_profile(tmp_path: Path) -> None:
    image = plain("RGBA", (200, 100, 10, 255))
    image.paste((0, 0, 0, 0), (0, 0, 16, 32))
    picture, written, _ = convert(encode(image, icc_profile=SWAPPED), tmp_path)

    assert picture.masked
    assert written.getpixel((3, 3)) == (255, 255, 255, 0)
    assert near(written.getpixel((28, 3)), (10, 100, 200, 255))


def test_cielab_is_converted_without_any_profile(tmp_path: Path) -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(plain("RGB", (200, 100, 10)), srgb, lab, outputMode="LAB")
    assert image is not None
    image.info.clear()

    assert near(colour_of(encode(image, "TIFF"), tmp_path)[0], (200, 100, 10), 3)


def test_a_profile_that_is_srgb_by_another_name_changes_no_pixel(tmp_path: Path) -> None:
    for profile in (rgb_profile(SRGB), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()):
        _, image, _ = convert(encode(draw(3), icc_profile=profile), tmp_path)
        assert image.tobytes() == draw(3).tobytes()


@pytest.mark.parametrize("intent", [0, 1, 2, 3, 77])
def test_every_rendering_intent_that_a_profile_may_ask_for_is_taken(intent: int, tmp_path: Path) -> None:
    data = encode(plain("RGB", ORANGE_IN_P3), icc_profile=rgb_profile(DISPLAY_P3, intent=intent))

    assert near(colour_of(data, tmp_path)[0], ORANGE)


UNUSABLE = {
    "garbage": encode(plain("RGB", (200, 100, 10)), icc_profile=b"this is no profile " * 20),
    "cut short": encode(plain("RGB", (200, 100, 10)), icc_profile=P3[:300]),
    "for inks, beside RGB": encode(plain("RGB", (200, 100, 10)), icc_profile=INKS),
    "for greys, beside RGB": encode(plain("RGB", (200, 100, 10)), icc_profile=grey_profile(1.8)),
    "garbage in a JPEG": encode(plain("RGB", (200, 100, 10)), "JPEG", quality=100, icc_profile=bytes(500)),
    "of zeros, 80 MiB, packed": encode(plain("RGB", (200, 100, 10)))[:33]
    + chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(80 << 20), 9))
    + encode(plain("RGB", (200, 100, 10)))[33:],
    "packed in an unknown way": encode(plain("RGB", (200, 100, 10)))[:33]
    + chunk(b"iCCP", b"x\0\x07" + zlib.compress(P3))
    + encode(plain("RGB", (200, 100, 10)))[33:],
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_without_a_usable_profile_the_colours_stay_and_it_is_said(what: str, tmp_path: Path) -> None:
    colour, notes = colour_of(UNUSABLE[what], tmp_path)

    assert near(colour, (200, 100, 10))
    assert notes == ("unusable-profile",)


def test_a_profile_larger_than_pillow_reads_is_used(tmp_path: Path) -> None:
    large = P3[:128] + P3[128:] + bytes(3 << 20)
    large = struct.pack(">L", len(large)) + large[4:]
    whole = encode(plain("RGB", ORANGE_IN_P3))
    colour, notes = colour_of(whole[:33] + chunk(b"iCCP", b"x\0\0" + zlib.compress(large)) + whole[33:], tmp_path)

    assert near(colour, ORANGE)
    assert notes == ()


# --- colours named by numbers -------------------------------------------------------------------------------


def coded(kind: str, primaries: int, transfer: int) -> bytes:
    """Without a profile; ``ORANGE_IN_P3`` throughout."""
    if kind == "PNG":
        whole = encode(plain("RGB", ORANGE_IN_P3))
        return whole[:33] + chunk(b"cICP", bytes([primaries, transfer, 0, 1])) + whole[33:]
    options: dict[str, Any] = {"chroma": 444} if kind == "HEIF" else {"subsampling": "4:4:4"}
    whole = encode(plain("RGB", ORANGE_IN_P3), kind, quality=100, **options)
    at = whole.index(b"colrnclx") + 8
    return whole[:at] + struct.pack(">HH", primaries, transfer) + whole[at + 4 :]


@pytest.mark.parametrize("kind", ["PNG", "HEIF", "AVIF"])
def test_display_p3_by_its_number_is_converted(kind: str, tmp_path: Path) -> None:
    colour, notes = colour_of(coded(kind, 12, 13), tmp_path)

    assert near(colour, ORANGE, 4)
    assert notes == ()


@pytest.mark.parametrize("kind", ["PNG", "HEIF", "AVIF"])
@pytest.mark.parametrize(("primaries", "transfer"), [(1, 13), (2, 2), (1, 1), (6, 6)])
def test_srgb_by_its_numbers_stays_as_it_is(kind: str, primaries: int, transfer: int, tmp_path: Path) -> None:
    colour, notes = colour_of(coded(kind, primaries, transfer), tmp_path)

    assert near(colour, ORANGE_IN_P3, 3)
    assert notes == ()


def test_bt_2020_and_plain_gammas_by_their_numbers(tmp_path: Path) -> None:
    """A red of BT.2020 lies far outside sRGB; a grey stays grey, lighter by the gamma."""
    wide, _ = colour_of(coded("PNG", 9, 13), tmp_path)
    assert wide[0] == 255 and wide[2] < ORANGE_IN_P3[2]
    whole = encode(plain("RGB", (100, 100, 100)))
    linear = whole[:33] + chunk(b"cICP", bytes([1, 8, 0, 1])) + whole[33:]
    assert near(colour_of(linear, tmp_path)[0], (168, 168, 168))


@pytest.mark.parametrize(("primaries", "transfer"), [(9, 16), (9, 18), (22, 13), (200, 200)])
def test_what_cannot_be_converted_stays_and_it_is_said(primaries: int, transfer: int, tmp_path: Path) -> None:
    colour, notes = colour_of(coded("PNG", primaries, transfer), tmp_path)

    assert near(colour, ORANGE_IN_P3)
    assert notes == ("unusable-profile",)


def test_a_profile_goes_before_the_numbers(tmp_path: Path) -> None:
    whole = encode(plain("RGB", (200, 100, 10)), icc_profile=SWAPPED)
    data = whole[:33] + chunk(b"cICP", bytes([12, 13, 0, 1])) + whole[33:]

    assert near(colour_of(data, tmp_path)[0], (10, 100, 200))


# --- a colour that is transparent --------------------------------------------------------------------------


def keyed_png(depth: int, colour: int, left: tuple[int, ...], right: tuple[int, ...]) -> bytes:
    """32 x 32 samples of ``depth`` bits; its left half has the colour that tRNS calls transparent."""
    bits = "".join(f"{value:0{depth}b}" for pixel in [left] * 16 + [right] * 16 for value in pixel)
    row = b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    key = chunk(b"tRNS", struct.pack(f">{len(left)}H", *left))
    return png_of(header(32, 32, depth, colour), key, chunk(b"IDAT", zlib.compress(row * 32)), END)


@pytest.mark.parametrize(
    ("depth", "colour", "left", "right", "shown"),
    [
        (1, 0, (1,), (0,), (0, 0, 0)),
        (2, 0, (2,), (1,), (85, 85, 85)),
        (4, 0, (9,), (3,), (51, 51, 51)),
        (8, 0, (200,), (100,), (100, 100, 100)),
        (16, 0, (0x8001,), (0x8002,), (128, 128, 128)),
        (16, 0, (5,), (0xC800,), (200, 200, 200)),
        (8, 2, (1, 2, 3), (1, 2, 4), (1, 2, 4)),
        (16, 2, (0x0102, 0x0203, 0x0304), (0x0102, 0x0203, 0x0305), (1, 2, 3)),
        (16, 2, (0xFFFF, 0, 0), (0xFFFE, 0, 0), (255, 0, 0)),
    ],
)
def test_the_transparent_colour_is_compared_in_all_of_its_bits(
    depth: int, colour: int, left: tuple[int, ...], right: tuple[int, ...], shown: tuple[int, ...], tmp_path: Path
) -> None:
    picture, written, _ = convert(keyed_png(depth, colour, left, right), tmp_path)

    assert picture.masked
    assert written.getpixel((3, 3)) == (255, 255, 255, 0)
    assert written.getpixel((28, 3)) == (*shown, 255)


def test_the_transparent_colour_of_a_gif_is_white(tmp_path: Path) -> None:
    for mode in ("P", "L"):
        image = Image.new(mode, (32, 32), 7)
        if mode == "P":
            image.putpalette([value for level in range(256) for value in (level, 0, 255 - level)])
        image.paste(90, (16, 0, 32, 32))
        picture, written, _ = convert(encode(image, "GIF", transparency=7), tmp_path)
        assert picture.masked, mode
        assert written.getpixel((3, 3)) == (255, 255, 255, 0)
        assert written.getpixel((28, 3)) == ((90, 0, 165, 255) if mode == "P" else (90, 90, 90, 255))
