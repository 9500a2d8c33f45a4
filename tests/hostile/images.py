"""Pictures that promise or take more than a picture does, are of other formats, or broken. Each must be left out."""

import functools
import struct
import zlib
from collections.abc import Iterator

from PIL import Image, ImageDraw

from tests.fixtures.pictures import draw, encode
from tests.hostile.other_formats import list_costly_formats, list_other_formats

MAX_PIXELS = 1 << 20
"""Of the tests' decoder. The words of the refusals tell of it."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"
TOO_LARGE, FOREIGN, BROKEN = "more than 1,048,576", "Export it as PNG or JPEG; WebP, HEIC,", "broken or cut short"

Case = tuple[str, bytes, str]
"""What it is, its bytes, words of the reason."""


@functools.cache
def list_images() -> dict[str, tuple[bytes, str]]:
    makers = (_png_sizes, _jpeg_sizes, _webp_sizes, _packed, _foreign, _broken_png, _broken_jpeg, _cut)
    cases = [*(case for make in makers for case in make()), *list_other_formats()]
    assert len({name for name, _, _ in cases}) == len(cases)
    return {name: (data, words) for name, data, words in cases}


# --- sizes --------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def header(width: int, height: int, depth: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">2L5B", width, height, depth, colour, 0, 0, interlaced))


def png_of(*chunks: bytes) -> bytes:
    return SIGNATURE + b"".join(chunks)


END = chunk(b"IEND", b"")
NO_PIXELS = chunk(b"IDAT", zlib.compress(b""))


def _png_sizes() -> Iterator[Case]:
    for width, height in ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 16), (16, 2**31 - 1), (1 << 10, 1025)):
        yield f"PNG of {width} x {height}", png_of(header(width, height), NO_PIXELS, END), TOO_LARGE
    for colour, depth in ((0, 1), (0, 16), (2, 16), (3, 1), (4, 16), (6, 8), (6, 16)):
        data = png_of(header(50_000, 50_000, depth, colour), chunk(b"PLTE", bytes(6)), NO_PIXELS, END)
        yield f"PNG of 50,000 x 50,000, colours {colour} of {depth} bits", data, TOO_LARGE
    yield "interlaced PNG of 30,000 x 30,000", png_of(header(30_000, 30_000, interlaced=1), NO_PIXELS, END), TOO_LARGE
    yield "PNG of 20,000 x 20,000 with all its pixels", _whole_png(20_000), TOO_LARGE
    yield "PNG of 15 x 15", encode(draw(1, 15, 15)), "16 on each side"
    yield "PNG of 1 x 1,000,000", encode(Image.new("1", (1, 1_000_000))), "16 on each side"


def _whole_png(side: int) -> bytes:
    """Black, one bit a pixel: 50 MB of rows in some kilobytes."""
    rows = zlib.compressobj(9)
    pixels = b"".join(rows.compress(bytes(1 + side // 8)) for _ in range(side)) + rows.flush()
    return png_of(header(side, side, 1, 0), chunk(b"IDAT", pixels), END)


def _jpeg_sizes() -> Iterator[Case]:
    for progressive in (False, True):
        whole = encode(draw(1), "JPEG", progressive=progressive)
        for width, height in ((65_535, 65_535), (65_500, 17), (17, 65_500), (32_000, 32_000)):
            name = f"{'progressive ' * progressive}JPEG of {width} x {height}"
            yield name, resize_jpeg(whole, width, height), TOO_LARGE
    yield "JPEG without a height", resize_jpeg(encode(draw(1), "JPEG"), 48, 0), ""


def resize_jpeg(data: bytes, width: int, height: int) -> bytes:
    """Says another size in the frame's header (SOF0 or SOF2)."""
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    return data[: at + 5] + struct.pack(">2H", height, width) + data[at + 9 :]


def _webp_sizes() -> Iterator[Case]:
    yield "WebP of 16,383 x 100", encode(Image.new("RGB", (16_383, 100)), "WEBP"), TOO_LARGE
    yield "lossless WebP of 16,383 x 100", encode(Image.new("RGB", (16_383, 100)), "WEBP", lossless=True), TOO_LARGE
    yield "WebP with a canvas of 16,777,216 x 16,777,216", _extended_webp(1 << 24, 1 << 24), ""
    yield "WebP with a canvas of 20,000 x 20,000", _extended_webp(20_000, 20_000), ""


def _extended_webp(width: int, height: int) -> bytes:
    """The canvas of VP8X says one size, the picture within another."""
    inner = encode(draw(1), "WEBP")[12:]
    canvas = (
        struct.pack("<4sLL", b"VP8X", 10, 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    return riff(canvas + inner)


def riff(content: bytes) -> bytes:
    return struct.pack("<4sL4s", b"RIFF", len(content) + 4, b"WEBP") + content


# --- much in little -------------------------------------------------------------------------------------


def _packed() -> Iterator[Case]:
    start = encode(draw(1))[:33]
    yield "PNG with too few pixels", start + chunk(b"IDAT", zlib.compress(bytes(50))) + END, BROKEN


def _packed_texts() -> dict[str, bytes]:
    """Pillow itself gives up on a text of more than a mebibyte, and on 64 of them together."""
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000), 9))
    return {
        "PNG with 80 MiB of text in zTXt": _with_chunks(1000, chunk(b"zTXt", b"Comment\0\0" + _bomb())),
        "PNG with 80 MiB of text in iTXt": _with_chunks(1001, chunk(b"iTXt", b"Comment\0\1\0\0\0" + _bomb())),
        "PNG with 80 MiB of colour profile": _with_chunks(1002, chunk(b"iCCP", b"x\0\0" + _bomb())),
        "PNG with seventy texts of a megabyte": _with_chunks(1003, text * 70),
        "PNG with five thousand empty texts": _with_chunks(1004, chunk(b"tEXt", b"") * 5_000),
    }


def _with_chunks(seed: int, chunks: bytes) -> bytes:
    whole = encode(draw(seed))
    return whole[:33] + chunks + whole[33:]


@functools.cache
def _bomb() -> bytes:
    """80 MiB of zeros."""
    return zlib.compress(bytes(80 << 20), 9)


def _miscounted() -> dict[str, bytes]:
    return {
        f"PNG that says {said} frames and has 1": _with_chunks(1010 + at, chunk(b"acTL", struct.pack(">2L", said, 0)))
        for at, said in enumerate((2, 2**31 - 1, 2**32 - 1))
    }


# --- other formats ----------------------------------------------------------------------------------------

_BY_PILLOW = ("DIB", "ICO", "ICNS", "TGA", "PPM", "PCX", "SGI", "PDF", "EPS", "JPEG2000", "DDS", "QOI", "BLP", "SPIDER",
              "MSP", "XBM")  # fmt: skip
_MODES = {"MSP": "1", "XBM": "1", "SPIDER": "F", "BLP": "P"}


def _foreign() -> Iterator[Case]:
    """Formats whose readers Pillow has, and which it must not be asked to try."""
    for kind in _BY_PILLOW:
        image = draw(1, 64, 64).convert(_MODES.get(kind, "RGB"))
        yield f"{kind} by another name", encode(image, kind), FOREIGN
    for name, data in {
        "PostScript that runs": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(%pipe%id) (r) file\n",
        "SVG with a script": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "SVG that reads files": b'<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        "ImageMagick's script": b"push graphic-context\nfill 'url(https://x/\"|id\")'\npop graphic-context\n",
        "HTML": b"<html><script>alert(1)</script></html>",
        "PSD of 30,000 x 30,000": b"8BPS\0\1" + bytes(6) + struct.pack(">HLLHH", 3, 30_000, 30_000, 8, 3) + bytes(99),
        "FLI": struct.pack("<LHHHH", 200, 0xAF11, 9, 30_000, 30_000) + bytes(200),
        "WMF": b"\xd7\xcd\xc6\x9a" + bytes(100),
        "FITS": b"SIMPLE  =                    T" + b" " * 2850,
        "JPEG XL": b"\xff\x0a" + bytes(100),
        "a video": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(100),
        "a film": b"\x1aE\xdf\xa3" + bytes(100),
        "a drawing of GIMP's": b"gimp xcf v011\0" + struct.pack(">2L", 30_000, 30_000),
        "OpenEXR": b"\x76\x2f\x31\x01\2\0\0\0" + bytes(100),
        "a hidden twin of macOS's": b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(100),
        "a pointer to a picture": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "a ZIP": b"PK\3\4" + bytes(200),
        "a program": b"\x7fELF\2\1\1" + bytes(200),
        "text": b"this is no picture at all " * 20,
        "zeros": bytes(5000),
    }.items():
        yield name, data, FOREIGN
    yield "nothing", b"", "It is empty"


# --- broken ------------------------------------------------------------------------------------------------


def _broken_png() -> Iterator[Case]:
    whole = encode(draw(1, 64, 64))
    pixels = chunk(b"IDAT", zlib.compress(bytes(65 * 200)))
    for name, data in {
        "without a header": png_of(pixels, END),
        "with two headers": png_of(header(64, 64), header(60_000, 60_000), pixels, END),
        "of no width": png_of(header(0, 64), pixels, END),
        "of no height": png_of(header(64, 0), pixels, END),
        "of 7 bits": png_of(header(64, 64, 7), pixels, END),
        "of colours 5": png_of(header(64, 64, 8, 5), pixels, END),
        "with a palette too long": png_of(header(64, 64, 8, 3), chunk(b"PLTE", bytes(3000)), END),
        "without pixels": png_of(header(64, 64), END),
        "with a chunk of 2 GiB": png_of(header(64, 64), struct.pack(">L", 2**31 - 1) + b"IDAT" + bytes(99)),
        "with a chunk of 4 GiB": png_of(header(64, 64), struct.pack(">L", 2**32 - 1) + b"tEXt" + bytes(99)),
        "with pixels that are no zlib": png_of(header(64, 64), chunk(b"IDAT", b"\xff" * 500), END),
        "with a header too short": png_of(chunk(b"IHDR", bytes(5)), pixels, END),
        "with a wrong checksum": whole[:29] + b"\0\0\0\0" + whole[33:],
        "that is a signature": SIGNATURE,
    }.items():
        yield f"PNG {name}", data, ""


def _broken_jpeg() -> Iterator[Case]:
    whole = encode(draw(1, 64, 64), "JPEG")
    scan = whole.index(b"\xff\xda")
    tables, frame = whole.index(b"\xff\xc4"), whole.index(b"\xff\xc0")
    for name, data in {
        "without a scan": whole[:scan] + b"\xff\xd9",
        "without a frame": whole[:frame] + whole[tables:],
        "of 255 components": whole[: frame + 9] + b"\xff" + whole[frame + 10 :],
        "of 12 bits": whole[: frame + 4] + b"\x0c" + whole[frame + 5 :],
        "with a segment past its end": whole[:20] + b"\xff\xe1\xff\xff" + whole[20:200],
        "that is a signature": b"\xff\xd8\xff",
    }.items():
        yield f"JPEG {name}", data, ""


def _cut() -> Iterator[Case]:
    big = draw(1, 200, 200)
    for kind, part in (("PNG", 400), ("PNG", 60), ("JPEG", 1500), ("JPEG", 300), ("WEBP", 300), ("WEBP", 40)):
        yield f"{kind} cut after {part} bytes", encode(big, kind)[:part], ""
    webp = encode(big, "WEBP")
    yield "WebP that says it is longer", riff(webp[12:])[:4] + struct.pack("<L", 2**31) + webp[8:], ""
    yield "WebP of another kind", riff(b"VP9 " + webp[16:]), ""
    yield "WebP with nothing in it", riff(b""), ""


# --- costly, and pictures all the same -----------------------------------------------------------------------


@functools.cache
def list_costly() -> dict[str, bytes]:
    """What would take much of a careless reader, and is taken at no cost to speak of."""
    small = encode(draw(1))
    loop = struct.pack("<2sHL", b"II", 42, 8) + struct.pack("<HHHLLL", 1, 0x8769, 4, 1, 8, 8)
    return {
        "PNG with 80 MiB behind its last row": small[:33] + chunk(b"IDAT", _bomb()) + END,
        **_packed_texts(),
        **_miscounted(),
        **list_costly_formats(),
        "JPEG of a thousand scans": _many_scans(),
        "JPEG whose EXIF leads to itself": encode(draw(2), "JPEG", exif=b"Exif\0\0" + loop),
        "JPEG with 65,535 entries of EXIF": encode(draw(3), "JPEG", exif=_long_exif()),
    }


def _many_scans() -> bytes:
    """Progressive, with the first scan said again a thousand times: each costs a pass over the picture."""
    image = Image.new("L", (1000, 1000))
    ImageDraw.Draw(image).ellipse((100, 100, 900, 900), fill=255)
    data = encode(image, "JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    second = data.index(b"\xff\xc4", first)
    return data[:first] + data[first:second] * 1000 + data[second:]


def _long_exif() -> bytes:
    """More entries than there are bytes."""
    return b"Exif\0\0" + struct.pack("<2sHLH", b"II", 42, 8, 65_535) + struct.pack("<HHLL", 0x0112, 3, 1, 1) * 5000
