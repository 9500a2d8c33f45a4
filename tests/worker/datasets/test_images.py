"""What is stored is upright, RGB, without metadata; what cannot be used is said to be so, with what to do."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, PngImagePlugin

from core.domain.dataset import BLURRY_BELOW, NEAR_DUPLICATE_BITS
from scripts import glyphs
from tests.fixtures.pictures import draw, encode, png
from worker.datasets.images import ConvertedImage, Unusable, convert_image, hash_differences, measure_sharpness
from worker.datasets.sandbox import Sandbox

MAX_PIXELS = 1 << 20
CANARY = b"canary-7f3a"


def convert(data: bytes, tmp_path: Path) -> tuple[ConvertedImage, Image.Image, bytes]:
    source, target = tmp_path / "source", tmp_path / "target.png"
    source.write_bytes(data)
    picture = convert_image(source, target, max_pixels=MAX_PIXELS)
    image = Image.open(target)
    image.load()
    return picture, image, target.read_bytes()


def reason_against(data: bytes, tmp_path: Path) -> str:
    with pytest.raises(Unusable) as unusable:
        convert(data, tmp_path)
    return str(unusable.value)


def test_a_png_keeps_its_pixels(tmp_path: Path) -> None:
    picture, image, _ = convert(png(3), tmp_path)

    assert (picture.width, picture.height) == image.size == (48, 40)
    assert image.mode == "RGB"
    assert image.tobytes() == draw(3).tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_other_formats_nearly_so(kind: str, tmp_path: Path) -> None:
    _, image, _ = convert(encode(draw(3), kind, quality=95), tmp_path)

    assert np.abs(np.asarray(image, dtype=int) - np.asarray(draw(3), dtype=int)).mean() < 16


def test_the_same_pixels_give_the_same_bytes_whatever_they_came_in(tmp_path: Path) -> None:
    webp = encode(draw(3), "WEBP", lossless=True)
    first, second = convert(png(3), tmp_path)[0], convert(webp, tmp_path)[0]

    assert first == second


def grey_ramp_16() -> bytes:
    return encode(Image.fromarray(np.tile(np.arange(256, dtype=np.uint16) * 256 + 77, (32, 1))))


def split(left: object, right: object, mode: str) -> Image.Image:
    image = Image.new(mode, (64, 32), left)  # type: ignore[arg-type]
    image.paste(right, (32, 0, 64, 32))  # type: ignore[arg-type]
    return image


def palette_with_alpha() -> bytes:
    image = split((9, 8, 7), (90, 80, 70), "RGB").quantize(2)
    return encode(image, transparency=image.getpixel((0, 0)))


BLACK, WHITE, BROWN = (0, 0, 0), (255, 255, 255), (90, 80, 70)

# What -> its bytes, and the colours at its left and its right.
MODES: dict[str, tuple[bytes, tuple[int, int, int], tuple[int, int, int]]] = {
    "bilevel": (encode(split(0, 255, "1")), BLACK, WHITE),
    "grey": (encode(split(10, 200, "L")), (10, 10, 10), (200, 200, 200)),
    "grey with alpha": (encode(split((10, 255), (200, 0), "LA")), (10, 10, 10), WHITE),
    "grey of 16 bits": (grey_ramp_16(), BLACK, WHITE),
    "palette": (encode(split((9, 8, 7), BROWN, "RGB").quantize(4)), (9, 8, 7), BROWN),
    "palette with alpha": (palette_with_alpha(), WHITE, BROWN),
    "colour key": (encode(split((1, 2, 3), BROWN, "RGB"), transparency=(1, 2, 3)), WHITE, BROWN),
    "transparent": (encode(split((9, 8, 7, 0), (*BROWN, 255), "RGBA")), WHITE, BROWN),
    "half transparent": (encode(split((0, 0, 0, 128), (*BROWN, 255), "RGBA")), (127, 127, 127), BROWN),
    "CMYK": (encode(split((255, 255, 255, 0), (0, 0, 0, 0), "CMYK"), "JPEG", quality=100), BLACK, WHITE),
    "grey JPEG": (encode(split(0, 255, "L"), "JPEG", quality=100), BLACK, WHITE),
    "transparent WebP": (encode(split((0, 0, 0, 0), (*BROWN, 255), "RGBA"), "WEBP", lossless=True), WHITE, BROWN),
}


MASKED = {
    "grey with alpha",
    "palette with alpha",
    "colour key",
    "transparent",
    "half transparent",
    "transparent WebP",
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb_on_white(mode: str, tmp_path: Path) -> None:
    data, left, right = MODES[mode]
    picture, written, _ = convert(data, tmp_path)
    image = written.convert("RGB")

    assert written.mode == ("RGBA" if picture.masked else "RGB")
    assert picture.masked == (mode in MASKED)
    assert np.abs(np.subtract(image.getpixel((0, 5)), left)).max() <= 2
    assert np.abs(np.subtract(image.getpixel((image.width - 1, 5)), right)).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind: str, orientation: int, tmp_path: Path) -> None:
    """A white corner that every reader of EXIF shows at the upper left."""
    upright = Image.new("RGB", (64, 32), "black")
    upright.paste("white", (0, 0, 16, 16))
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that undoes what EXIF says
    stored = upright.transpose(Image.Transpose(turns[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation

    _, image, _ = convert(encode(stored, kind, exif=exif.tobytes()), tmp_path)

    assert image.size == (64, 32)
    assert image.getpixel((3, 3)) >= (200, 200, 200)
    assert image.getpixel((60, 28)) <= (50, 50, 50)


def with_text() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", CANARY.decode())
    text.add_itxt("XML:com.adobe.xmp", CANARY.decode())
    return encode(draw(1), pnginfo=text, exif=canary_exif(), icc_profile=CANARY)


def canary_exif() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = CANARY.decode()
    exif.get_ifd(0x8825)[2] = (52.0, 30.0, 0.0)
    return exif.tobytes()


@pytest.mark.parametrize(
    "data",
    [
        with_text(),
        encode(draw(1), "JPEG", exif=canary_exif(), comment=CANARY, xmp=CANARY, icc_profile=CANARY),
        encode(draw(1), "WEBP", exif=canary_exif(), xmp=CANARY, icc_profile=CANARY),
        png(1) + CANARY,
        png(1) + b"PK\3\4" + CANARY,
        encode(draw(1), "JPEG") + b"<script>" + CANARY,
    ],
    ids=["png", "jpeg", "webp", "png+tail", "png+zip", "jpeg+script"],
)
def test_nothing_but_pixels_is_kept(data: bytes, tmp_path: Path) -> None:
    assert CANARY in data

    _, image, stored = convert(data, tmp_path)

    assert CANARY not in stored
    assert {stored[at + 4 : at + 8] for at in chunk_starts(stored)} == {b"IHDR", b"IDAT", b"IEND"}
    assert not image.getexif()


def chunk_starts(data: bytes) -> list[int]:
    starts, at = [], 8
    while at < len(data):
        starts.append(at)
        at += 12 + struct.unpack(">L", data[at : at + 4])[0]
    return starts


def test_broken_exif_does_not_lose_the_picture(tmp_path: Path) -> None:
    data = encode(draw(1), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20))

    assert convert(data, tmp_path)[0].width == 48


def mpo() -> bytes:
    """As phones write: the photograph, and a second picture behind it."""
    return encode(draw(1), "MPO", save_all=True, append_images=[draw(2)])


def test_the_first_picture_of_a_phone_is_the_photograph(tmp_path: Path) -> None:
    _, image, _ = convert(mpo(), tmp_path)

    assert distance(image, draw(1)) <= 3 < distance(image, draw(2))


# --- left out ------------------------------------------------------------------------------------------


def header_only(width: int, height: int) -> bytes:
    """A PNG that promises ``width`` x ``height`` and holds a few bytes."""
    header = struct.pack(">2L5B", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data)) for kind, data in chunks
    )


WRONG = {
    "text": (
        b"this is a text file",
        "one in an unsupported format. Export it as PNG or JPEG;",
    ),
    "nothing": (b"", "It is empty"),
    "html": (b"<html><script>alert(1)</script>", "It is a web page"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "It is an SVG drawing"),
    "zip": (b"PK\3\4" + bytes(100), "It is a ZIP archive"),
    "jpeg xl": (b"\xff\x0a" + bytes(100), "It is a JPEG XL image, which is not supported. Export it as PNG or JPEG;"),
    "photoshop": (b"8BPS\0\1" + bytes(100), "It is a Photoshop document"),
    "video": (b"\0\0\0\x18ftypisom\0\0\0\0isommp41" + bytes(100), "It is a video"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "It is a Git LFS pointer"),
    **{kind: (encode(draw(1), kind), "an unsupported format") for kind in ("TGA", "PPM", "PCX")},
    "ico": (encode(draw(1), "ICO"), "It is an icon"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "It is a PostScript document"),
    "floating-point tiff": (encode(draw(1).convert("F"), "TIFF"), "32-bit"),
    "bomb": (header_only(60_000, 60_000), "more than 1,048,576"),
    "bomb in height": (header_only(16, 2**31 - 1), "more than 1,048,576"),
    "just over": (header_only(1 << 10, (1 << 10) + 1), "more than 1,048,576"),
    "webp bomb": (encode(Image.new("RGB", (16383, 70)), "WEBP"), "more than 1,048,576"),
    "no width": (header_only(0, 64), ""),
    "no data": (header_only(64, 64), "broken or cut short"),
    "tiny": (png(1, 15, 64), "16 on each side"),
    "half a png": (png(1, 200, 200)[:400], "broken or cut short"),
    "half a jpeg": (encode(draw(1, 200, 200), "JPEG")[:1500], "broken or cut short"),
    "half a webp": (encode(draw(1, 200, 200), "WEBP")[:300], "broken or cut short"),
    "half a heic": (encode(draw(1, 200, 200), "HEIF")[:1500], "broken or cut short"),
    "half an avif": (encode(draw(1, 200, 200), "AVIF")[:1500], "broken or cut short"),
    "half a bmp": (encode(draw(1, 200, 200), "BMP")[:1500], "broken or cut short"),
    "half a tiff": (encode(draw(1, 200, 200), "TIFF", compression="tiff_lzw")[:900], "broken or cut short"),
    "half a gif": (encode(draw(1, 200, 200), "GIF")[:900], "broken or cut short"),
    "text bomb": (encode(draw(1), pnginfo=None)[:33] + struct.pack(">L", 2**31) + b"zTXt", ""),
}


@pytest.mark.parametrize("what", WRONG)
def test_left_out_with_its_reason(what: str, tmp_path: Path) -> None:
    data, words = WRONG[what]
    reason = reason_against(data, tmp_path)

    assert words in reason
    assert reason.endswith(".")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "WEBP", "HEIF", "AVIF", "BMP", "TIFF", "GIF"]))
def test_any_damage_is_converted_or_left_out(
    data: st.DataObject, kind: str, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp_path, picture = tmp_path_factory.mktemp("damage"), bytearray(encode(draw(1), kind))
    for at in data.draw(st.lists(st.integers(0, len(picture) - 1), min_size=1, max_size=8)):
        picture[at] = data.draw(st.integers(0, 255))
    (tmp_path / "source").write_bytes(picture)
    before = sandbox.pid
    try:
        found = sandbox.convert(tmp_path / "source", tmp_path / "target")
    except Unusable:
        return
    finally:
        assert before in (None, sandbox.pid), "the decoder must not crash"
    with Image.open(io.BytesIO((tmp_path / "target").read_bytes())) as image:
        assert (image.mode, image.size) == ("RGBA" if found.masked else "RGB", (found.width, found.height))


# --- described -----------------------------------------------------------------------------------------


def distance(first: Image.Image, second: Image.Image) -> int:
    return (int(hash_differences(first), 16) ^ int(hash_differences(second), 16)).bit_count()


def test_near_duplicates_have_near_hashes() -> None:
    image = glyphs.compose(glyphs.sprite(glyphs.BASE["cat face"]), glyphs.BACKGROUNDS["blue"], glyphs.Pose(0.86), 256)
    darker = image.point(lambda value: value * 0.9)
    smaller = image.resize((200, 200))
    other = glyphs.compose(glyphs.sprite(glyphs.BASE["car"]), glyphs.BACKGROUNDS["blue"], glyphs.Pose(0.86), 256)

    assert distance(image, darker) <= NEAR_DUPLICATE_BITS
    assert distance(image, smaller) <= NEAR_DUPLICATE_BITS
    assert distance(image, other) > NEAR_DUPLICATE_BITS


@pytest.mark.parametrize("size", [64, 256])
def test_sharp_glyphs_are_not_called_blurry_and_blurred_ones_are(size: int) -> None:
    """Blurred by what is three pixels on a side of 256: plain to see."""
    rng = random.Random(size)
    chars = [*list(glyphs.BASE.values())[::4], *glyphs.HELD_OUT.values()]
    sharp = [
        glyphs.compose(glyphs.sprite(char), background, glyphs.draw_pose(rng, word), size)
        for char, background, word in zip(
            chars, list(glyphs.BACKGROUNDS.values()) * 9, ["large", "small"] * 99, strict=False
        )
    ]
    blurred = [image.filter(ImageFilter.GaussianBlur(3 * max(1, size / 256))) for image in sharp]

    assert min(map(measure_sharpness, sharp)) > BLURRY_BELOW
    assert max(map(measure_sharpness, blurred)) < BLURRY_BELOW


def test_sharpness_does_not_depend_on_the_size() -> None:
    image = draw(1, 512, 512)

    assert measure_sharpness(image.resize((2048, 2048), Image.Resampling.NEAREST)) == pytest.approx(
        measure_sharpness(image), rel=0.1
    )
