"""HEIC, AVIF, BMP, TIFF and GIF files that promise or take more than a picture does, or are broken."""

import functools
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pillow_heif
from PIL import Image

from tests.fixtures.pictures import draw, encode

TOO_LARGE, BROKEN, EMPTY = "more than 1,048,576", "broken or cut short", "16 on each side"

Case = tuple[str, bytes, str]
"""What it is, its bytes, words of the reason."""

pillow_heif.register_heif_opener()


def list_other_formats() -> Iterator[Case]:
    for make in (_box_sizes, _broken_boxes, _bmp, _tiff_sizes, _tiff_lies, _gif):
        yield from make()


# --- HEIC and AVIF: boxes (ISO/IEC 14496-12) ------------------------------------------------------------------


@functools.cache
def whole(kind: str, side: int = 64, **options: Any) -> bytes:
    return encode(draw(1, side, side), kind, **options)


def replace_in_box(data: bytes, box: bytes, at: int, value: bytes) -> bytes:
    """``at`` counts from behind the box's name; all boxes of that name."""
    position = data.find(box)
    while position >= 0:
        start = position + 4 + at
        data = data[:start] + value + data[start + len(value) :]
        position = data.find(box, position + 4)
    return data


def _box_sizes() -> Iterator[Case]:
    sizes = ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**32 - 1, 2**32 - 1), (2**31 - 1, 17), (0, 64), (64, 0))
    for kind in ("HEIF", "AVIF"):
        for width, height in sizes:
            data = replace_in_box(whole(kind), b"ispe", 4, struct.pack(">2L", width, height))
            yield f"{kind} of {width} x {height}", data, ""
        yield f"{kind} with a million pixels and more", encode(Image.new("RGB", (1100, 1100)), kind), TOO_LARGE
        yield f"{kind} of 8 x 8", encode(Image.new("RGB", (8, 8)), kind), EMPTY
    tiled = encode(draw(1, 256, 256), "HEIF", tile_size=64)
    for name, output in {"60,000 x 60,000": (60_000, 60_000), "nothing": (0, 0)}.items():
        data = replace_in_box(tiled, b"ispe", 4, struct.pack(">2L", *output))
        yield f"HEIF of tiles that says each is {name}", data, ""
    grid = tiled.find(bytes([0, 0, 3, 3]) + struct.pack(">2H", 256, 256))
    assert grid > 0
    for name, data in {
        "256 x 256 tiles": tiled[:grid] + b"\0\0\xff\xff" + tiled[grid + 4 :],
        "one tile": tiled[:grid] + b"\0\0\0\0" + tiled[grid + 4 :],
        "an output of 65,535 x 65,535": tiled[: grid + 4] + b"\xff\xff\xff\xff" + tiled[grid + 8 :],
    }.items():
        yield f"HEIF whose grid says {name}", data, ""


def _broken_boxes() -> Iterator[Case]:
    for kind in ("HEIF", "AVIF"):
        good = whole(kind)
        end_of_ftyp = struct.unpack(">L", good[:4])[0]
        ftyp, rest, codec = good[:end_of_ftyp], good[end_of_ftyp:], b"hvcC" if kind == "HEIF" else b"av1C"
        for name, data in {
            "that is its brands alone": ftyp,
            "whose brands go on for 4 GiB": b"\xff\xff\xff\xff" + good[4:],
            "without its list of items": ftyp + rest[struct.unpack(">L", rest[:4])[0] :],
            "with an empty list of items": ftyp + b"\0\0\0\x0cmeta\0\0\0\0",
            "whose list goes on for 4 GiB": ftyp + b"\xff\xff\xff\xff" + rest[4:],
            "whose list goes on for 16 EiB": ftyp + b"\0\0\0\1meta" + b"\xff" * 8 + rest[8:],
            "with a primary item that is not there": replace_in_box(good, b"pitm", 4, b"\xff\xff"),
            "that says 65,535 items": replace_in_box(good, b"iinf", 4, b"\xff\xff"),
            "that says 65,535 places": replace_in_box(good, b"iloc", 6, b"\xff\xff"),
            "whose places are odd": replace_in_box(good, b"iloc", 4, b"\xff\xff"),
            "that says 4 billion properties": replace_in_box(good, b"ipma", 4, b"\xff\xff\xff\xff"),
            "without how it is coded": good.replace(codec, b"free"),
            "coded in nonsense": replace_in_box(good, codec, 0, b"\xff" * 60),
            "without pixels": good[: good.index(b"mdat") + 4] + bytes(len(good) - good.index(b"mdat") - 4),
            "of five thousand boxes within each other": ftyp + _nest(5_000),
            "of ten thousand empty boxes": ftyp + b"\0\0\0\x08free" * 10_000,
            "cut in its list": good[: end_of_ftyp + 60],
            "cut in its pixels": whole(kind, 200)[:-900],
        }.items():
            yield f"{kind} {name}", data, BROKEN


def _nest(depth: int) -> bytes:
    return b"".join(struct.pack(">L4s4x", 12 * (depth - level), b"meta") for level in range(depth))


# --- BMP ------------------------------------------------------------------------------------------------------


def bmp(width: int = 64, height: int = 64, *, data: bytes = bytes(3 * 64 * 64), **said: int) -> bytes:
    """BITMAPINFOHEADER, or what calls itself so: ``header`` its size, ``offset`` where the pixels lie, ``bits``,
    ``compression``, ``colours``."""
    head = struct.pack("<2sLHHL", b"BM", 54 + len(data), 0, 0, said.get("offset", 54))
    sizes = struct.pack("<LllH", said.get("header", 40), width, height, 1)
    kind = struct.pack("<HLLll", said.get("bits", 24), said.get("compression", 0), 0, 0, 0)
    return head + sizes + kind + struct.pack("<LL", said.get("colours", 0), 0) + data


def _bmp() -> Iterator[Case]:
    for width, height in ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (1 << 10, 1025), (20_000, -20_000)):
        yield f"BMP of {width} x {height}", bmp(width, height), TOO_LARGE
    yield "BMP of 2**31 rows from above", bmp(64, -(2**31)), ""
    yield "BMP of no width", bmp(0, 64), ""
    yield "BMP of a width below nothing", bmp(-64, 64), ""
    for name, data in {
        "of 3 bits": bmp(bits=3),
        "of 65,535 bits": bmp(bits=65_535),
        "compressed in an unknown way": bmp(compression=99),
        "that says it holds a JPEG": bmp(compression=4, data=encode(draw(1), "JPEG")),
        "with a header of 2 GiB": bmp(header=2**31),
        "with a header of 13 bytes": bmp(header=13),
        "with 4 billion colours": bmp(bits=8, colours=2**32 - 1),
        "with fewer colours than it says": bmp(bits=8, colours=256, data=bytes(100)),
        "whose pixels lie 4 GiB on": bmp(offset=2**32 - 1),
        "cut after its header": bmp()[:54],
        "that is a signature": b"BM",
        "packed, and cut": bmp(bits=8, compression=1, colours=2, offset=62, data=bytes(8) + b"\xff\0" * 3),
    }.items():
        yield f"BMP {name}", data, BROKEN


# --- TIFF -----------------------------------------------------------------------------------------------------

SHORT, LONG = 3, 4
Tags = dict[int, tuple[int, tuple[int, ...]]]


def tiff(tags: Tags, data: bytes = b"", following: int = 0) -> bytes:
    """Little-endian: the pixels at 8, then what does not fit a tag, then the directory."""
    body, extra = b"II*\0\0\0\0\0" + data, b""
    body += bytes(len(body) % 2)
    entries = b""
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}{'H' if kind == SHORT else 'L'}", *values)
        if len(packed) > 4:
            place, extra = len(body) + len(extra), extra + packed + bytes(len(packed) % 2)
            packed = struct.pack("<L", place)
        entries += struct.pack("<HHL", tag, kind, len(values)) + packed.ljust(4, b"\0")
    start = len(body) + len(extra)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<L", following)
    return body[:4] + struct.pack("<L", start) + body[8:] + extra + directory


def plain(width: int = 64, height: int = 64, **changes: tuple[int, ...]) -> Tags:
    """8-bit grey in one strip; ``changes`` are by the names below."""
    tags: Tags = {
        256: (LONG, (width,)), 257: (LONG, (height,)), 258: (SHORT, (8,)), 259: (SHORT, (1,)), 262: (SHORT, (1,)),
        273: (LONG, (8,)), 277: (SHORT, (1,)), 278: (LONG, (64,)), 279: (LONG, (4096,)),
    }  # fmt: skip
    return tags | {_TAGS[name]: (tags.get(_TAGS[name], (SHORT,))[0], values) for name, values in changes.items()}


_TAGS = {
    "bits": 258, "compression": 259, "photometric": 262, "offsets": 273, "samples": 277, "rows": 278, "counts": 279,
    "planar": 284, "predictor": 317, "colormap": 320, "extra": 338, "format": 339,
}  # fmt: skip
GREY = bytes(4096)


def _tiff_sizes() -> Iterator[Case]:
    for width, height in ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**32 - 1, 17), (1 << 10, 1025)):
        yield f"TIFF of {width} x {height}", tiff(plain(width, height), GREY), ""
    for compression, data in {8: zlib.compress(bytes(4 << 20), 9), 32773: b"\x81\0" * 9000}.items():
        tags = plain(20_000, 20_000, compression=(compression,), counts=(len(data),), rows=(20_000,))
        yield f"TIFF of 20,000 x 20,000, compressed by {compression}", tiff(tags, data), TOO_LARGE
    yield "TIFF of no width", tiff(plain(0, 64), GREY), ""
    yield "TIFF of 8 x 8", tiff(plain(8, 8), GREY), EMPTY


def _tiff_lies() -> Iterator[Case]:
    for name, data in {
        "that is a signature": b"II*\0",
        "whose directory lies 4 GiB on": b"II*\0\xff\xff\xff\xff" + GREY,
        "whose directory is its start": b"II*\0\0\0\0\0" + GREY,
        "without a size": tiff(_without(plain(), 256, 257), GREY),
        "without pixels": tiff(_without(plain(), 273, 279), GREY),
        "whose pixels lie 4 GiB on": tiff(plain(offsets=(2**32 - 1,)), GREY),
        "compressed in an unknown way": tiff(plain(compression=(65_535,)), GREY),
        "that says it is a JPEG": tiff(plain(compression=(7,)), GREY),
        "that says it is packed": tiff(plain(compression=(8,)), b"\xff" * 4096),
        "of 65,535 samples": tiff(plain(samples=(65_535,)), GREY),
        "of 64 bits": tiff(plain(bits=(64,)), GREY),
        "of colours 99": tiff(plain(photometric=(99,)), GREY),
        "of tiles without a size": tiff({**_without(plain(), 273, 279), 324: (LONG, (8,)), 325: (LONG, (4096,))}, GREY),
        "cut in its pixels": encode(draw(1, 200, 200), "TIFF", compression="tiff_lzw")[:900],
        "large, cut": struct.pack("<2sHHHQ", b"II", 43, 8, 0, 2**63 - 1) + GREY,
        "large, of 16 EiB of tags": struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, 2**64 - 1) + GREY,
    }.items():
        yield f"TIFF {name}", data, ""


def _without(tags: Tags, *absent: int) -> Tags:
    return {tag: value for tag, value in tags.items() if tag not in absent}


# --- GIF ------------------------------------------------------------------------------------------------------


def gif(frame: bytes, width: int = 64, height: int = 64) -> bytes:
    """With a palette of two colours."""
    return b"GIF89a" + struct.pack("<2H3B", width, height, 0x80, 0, 0) + bytes(3) + b"\xff" * 3 + frame


def gif_frame(
    width: int = 64, height: int = 64, left: int = 0, top: int = 0, code: int = 2, data: bytes = b""
) -> bytes:
    return b"," + struct.pack("<4HBB", left, top, width, height, 0, code) + data


def _gif() -> Iterator[Case]:
    pixels = b"\x02\x4c\x01\0;"
    yield "GIF of 65,535 x 65,535", gif(gif_frame(65_535, 65_535, data=pixels), 65_535, 65_535), TOO_LARGE
    yield "GIF with a frame of 65,535 x 65,535", gif(gif_frame(65_535, 65_535, data=pixels)), ""
    yield "GIF with a frame far outside", gif(gif_frame(left=65_000, top=65_000, data=pixels)), ""
    for name, data in {
        "that is a signature": b"GIF89a",
        "without a frame": gif(b";"),
        "of no size": gif(gif_frame(0, 0, data=pixels), 0, 0),
        "of codes of 13 bits": gif(gif_frame(code=13, data=pixels)),
        "of codes of 255 bits": gif(gif_frame(code=255, data=pixels)),
        "whose pixels are nonsense": gif(gif_frame(data=b"\xff" + b"\xff" * 255 + b"\0;")),
        "whose pixels end at once": gif(gif_frame(data=b"\0;")),
        "cut in its pixels": encode(draw(1, 200, 200), "GIF")[:900],
        "with a comment without an end": gif(b"!\xfe" + (b"\xff" + b"c" * 255) * 50),
    }.items():
        yield f"GIF {name}", data, ""


# --- costly, and pictures all the same --------------------------------------------------------------------------


def list_costly_formats() -> dict[str, bytes]:
    """Of 64 x 64 pixels, each its own: doubles would be left out."""
    rows = tuple(range(8, 8 + 64 * 64, 64))
    behind = bytes(50_000)
    return {
        "GIF of 100 frames": _moving("GIF", 2000),
        "WebP of 100 frames": _moving("WEBP", 2010),
        "PNG of 100 frames": _moving("PNG", 2020),
        "AVIF of 30 frames": _moving("AVIF", 2030, 30, speed=10),
        "GIF with a comment of 100 kB": _long_comment(encode(draw(2040, 64, 64), "GIF")),
        "TIFF of 1,000 pages": _many_pages(1_000, grey(1)),
        "TIFF whose page comes again and again": _many_pages(1, grey(2), again=True),
        "TIFF of a strip a row": tiff(plain(offsets=rows, rows=(1,), counts=(64,) * 64), grey(3)),
        "TIFF that says a strip has 4 billion rows": tiff(plain(rows=(2**32 - 1,)), grey(4)),
        "TIFF with 80 MiB behind its last row": _overfull_strip(),
        "TIFF of 65,535 tags": _many_tags(grey(5)),
        "TIFF of a palette that is not there": tiff(plain(photometric=(3,), colormap=(1, 2)), bytes(range(256)) * 16),
        "TIFF of planes that are not there": tiff(
            plain(samples=(3,), planar=(2,), bits=(8, 8, 8), photometric=(2,)), grey(6)
        ),
        "TIFF with 20,000 strips": tiff(plain(offsets=(8,) * 20_000, counts=(4096,) * 20_000), grey(7)),
        "BMP with much behind its last row": encode(draw(2050, 64, 64), "BMP") + behind,
        "HEIF with much behind it": encode(draw(2051, 64, 64), "HEIF") + behind,
        "AVIF with much behind it": encode(draw(2052, 64, 64), "AVIF")
        + struct.pack(">L4s", 8 + len(behind), b"free")
        + behind,
    }


def grey(level: int) -> bytes:
    return bytes([level * 16]) * 4096


def _moving(kind: str, seed: int, number: int = 100, **options: Any) -> bytes:
    frames = [draw(seed + at % 7, 64, 64) for at in range(number)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def _long_comment(good: bytes) -> bytes:
    """Between the palette and the first frame."""
    start = 13 + 3 * 2 ** ((good[10] & 7) + 1)
    return good[:start] + b"!\xfe" + (b"\xff" + b"c" * 255) * 400 + b"\0" + good[start:]


def _many_tags(data: bytes) -> bytes:
    """As it says; there are nine."""
    good = tiff(plain(), data)
    start = struct.unpack("<L", good[4:8])[0]
    return good[:start] + b"\xff\xff" + good[start + 2 :]


def _overfull_strip() -> bytes:
    data = zlib.compress(b"\xf0" * (80 << 20), 9)
    return tiff(plain(compression=(8,), counts=(len(data),)), data)


def _many_pages(number: int, data: bytes, *, again: bool = False) -> bytes:
    """Of the same pixels."""
    first = tiff(plain(), data)
    start = struct.unpack("<L", first[4:8])[0]
    directory = first[start:-4]
    step = len(directory) + 4
    following = [start if again else start + step * (page + 1) for page in range(number)]
    if not again:
        following[-1] = 0
    return first[:start] + b"".join(directory + struct.pack("<L", at) for at in following)
