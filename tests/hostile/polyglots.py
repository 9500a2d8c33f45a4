"""Pictures that are something else as well, or say more than a picture should. Each carries ``CANARY``."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

from PIL import Image

from tests.fixtures.pictures import draw, encode
from tests.fixtures.weights import weights_of
from tests.hostile.images import END, chunk

CANARY = b"canary-c0ffee"
SCRIPT = b"<script>alert('" + CANARY + b"')</script>"
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}

Draw = Callable[[], Image.Image]
Case = tuple[str, str, bytes]
"""What it is, the picture's format, its bytes."""


def list_polyglots() -> dict[str, tuple[str, bytes]]:
    """Name -> suffix and bytes. No two have the same pixels: those would be left out as doubles."""
    seeds = iter(range(1000))

    def draw_next() -> Image.Image:
        return draw(next(seeds), 64, 64)

    makers = (_tails, _said_by_png, _said_by_jpeg, _said_by_webp, _orientations)
    cases = [case for make in makers for case in make(draw_next)]
    assert len({name for name, _, _ in cases}) == len(cases)
    assert all(CANARY in data for _, _, data in cases)
    return {name: (SUFFIXES[kind], data) for name, kind, data in cases}


def _archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", b"Main-Class: " + CANARY)
    return buffer.getvalue()


def _tails(draw_next: Draw) -> Iterator[Case]:
    """Behind the picture's end, where its readers do not look and others begin."""
    tails = {
        "a JAR": _archive(),
        "a page": b"<html>" + SCRIPT,
        "a PDF": b"%PDF-1.7\n% " + CANARY + b"\n1 0 obj<</OpenAction<</S/JavaScript>>>>endobj",
        "PHP": b"<?php system('" + CANARY + b"'); ?>",
        "a shell's script": b"\n#!/bin/sh\n: " + CANARY + b"\n",
        "weights": weights_of(CANARY),
        "a second picture": encode(draw(999), "JPEG", comment=CANARY),
    }
    for kind in SUFFIXES:
        for name, tail in tails.items():
            yield f"{kind} with {name} behind it", kind, encode(draw_next(), kind) + tail


def _exif(orientation: int = 1) -> bytes:
    """A description, an owner, a place, and a thumbnail that shows what was cut away."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x8298] = orientation, SCRIPT.decode(), CANARY.decode()
    exif.get_ifd(0x8825)[2] = (52.0, 30.0, 0.0)
    return exif.tobytes() + encode(draw(998), "JPEG", comment=CANARY)


def _said_by_png(draw_next: Draw) -> Iterator[Case]:
    for name, data in {
        "tEXt": chunk(b"tEXt", b"Comment\0" + SCRIPT),
        "iTXt": chunk(b"iTXt", b"Comment\0\0\0\0\0" + SCRIPT),
        "zTXt": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(SCRIPT, 0)),
    }.items():
        whole = encode(draw_next())
        yield f"PNG with a script in {name}", "PNG", whole[:33] + data + whole[33:]
    chunks = {
        "a private chunk": chunk(b"caNa", SCRIPT),
        "a critical chunk of its own": chunk(b"CaNA", SCRIPT),
        "a time and a page": chunk(b"tIME", bytes(7)) + chunk(b"tEXt", b"a\0<html>" + SCRIPT),
        "EXIF": chunk(b"eXIf", _exif()[6:]),
        "a suggested palette": chunk(b"sPLT", CANARY + b"\0\x08" + bytes(6)),
        "PHP in its palette": chunk(b"PLTE", (b"<?=" + CANARY + bytes(20))[:24]),
    }
    for name, data in chunks.items():
        whole = encode(draw_next())
        yield f"PNG with {name}", "PNG", whole[:33] + data + whole[33:]
    yield "PNG with a colour profile", "PNG", encode(draw_next(), icc_profile=CANARY * 9) + CANARY
    whole = encode(draw_next())
    yield "PNG with chunks behind its end", "PNG", whole + chunk(b"tEXt", SCRIPT) + END
    yield "PNG with rows behind its last", "PNG", _with_more_rows(draw_next())


def _with_more_rows(image: Image.Image) -> bytes:
    rows = b"".join(b"\0" + image.crop((0, y, 64, y + 1)).tobytes() for y in range(64))
    pixels = zlib.compress(rows + SCRIPT * 50, 0)
    return encode(image)[:33] + chunk(b"IDAT", pixels) + END


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _said_by_jpeg(draw_next: Draw) -> Iterator[Case]:
    segments = {
        "a comment": _segment(0xFE, SCRIPT),
        "XMP": _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + SCRIPT),
        "IPTC": _segment(0xED, b"Photoshop 3.0\0008BIM\x04\x04\0\0\0\0\0\x20" + SCRIPT[:32].ljust(32)),
        "a PDF at its start": _segment(0xE5, b"%PDF-1.7\n" + CANARY),
        "a page at its start": _segment(0xE5, b"<!doctype html>" + SCRIPT),
        "a script that hides the rest": _segment(0xE5, b"*/=1;alert('" + CANARY + b"');/*"),
        "a hundred comments": _segment(0xFE, SCRIPT) * 100,
        "a colour profile": _segment(0xE2, b"ICC_PROFILE\0\x01\x01" + CANARY * 9),
        "EXIF that is broken": _segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff" + CANARY),
        "EXIF of another order": _segment(0xE1, b"Exif\0\0XX*\0" + CANARY),
    }
    for name, data in segments.items():
        yield f"JPEG with {name}", "JPEG", b"\xff\xd8" + data + encode(draw_next(), "JPEG")[2:]
    pictures = [draw_next(), draw_next()]
    behind = encode(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
    yield "JPEG with a second picture of the phone's", "JPEG", behind + CANARY


def _said_by_webp(draw_next: Draw) -> Iterator[Case]:
    yield "WebP with EXIF", "WEBP", encode(draw_next(), "WEBP", exif=_exif())
    yield "WebP with XMP", "WEBP", encode(draw_next(), "WEBP", xmp=SCRIPT)
    yield "WebP with a colour profile", "WEBP", encode(draw_next(), "WEBP", icc_profile=CANARY * 9)
    inner = encode(draw_next(), "WEBP", lossless=True)[12:]
    own = struct.pack("<4sL", b"CANA", len(SCRIPT) + len(SCRIPT) % 2) + SCRIPT + b"\0" * (len(SCRIPT) % 2)
    yield (
        "WebP with a chunk of its own",
        "WEBP",
        struct.pack("<4sL4s", b"RIFF", len(inner + own) + 4, b"WEBP") + inner + own,
    )


def _orientations(draw_next: Draw) -> Iterator[Case]:
    """The eight that there are, and some that there are not."""
    for orientation in (*range(10), 255, 65_535):
        data = encode(draw_next(), "JPEG", exif=_exif(orientation))
        yield f"JPEG of orientation {orientation}, with its owner and place", "JPEG", data
