"""A PNG's chunks that describe the image rather than show it, if they are too large for Pillow.

Pillow refuses a whole image for a text of more than 1 MiB (``PngImagePlugin.MAX_TEXT_CHUNK``) or an embedded profile
that large. Such chunks are ancillary (PNG, third edition, 11.3): a reader may skip them.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT_BYTES = 256 << 10
"""Unpacked size of one chunk. EXIF within a text, as ImageMagick writes it, is far smaller."""
MAX_TEXTS_BYTES = 4 << 20
PILLOW_PROFILE_BYTES = 1 << 20
MAX_PROFILE_BYTES = 16 << 20
"""Unpacked. Profiles with large tables have a few mebibytes."""
MAX_CHUNKS = 100_000
"""A larger file is left to Pillow unchanged."""
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_PROFILE = b"iCCP"
FRAME_BYTES = 12
"""A chunk's length, type and checksum."""


@dataclass(frozen=True)
class OpenPng:
    """The PNG without the chunks for which Pillow would refuse it; ``profile`` is the colour profile of one of them."""

    file: BinaryIO
    profile: bytes | None = None
    lost_profile: bool = False


def open_png(path: Path) -> OpenPng:
    with path.open("rb") as file:
        dropped = list(_find_refused(file))
        if not dropped:
            return OpenPng(path.open("rb"))
        profiles = [_read_profile(file, start, end) for kind, start, end in dropped if kind == _PROFILE]
        profile = next((profile for profile in profiles if profile), None)
        return OpenPng(_copy_without(file, dropped), profile, bool(profiles) and profile is None)


def _read_profile(file: BinaryIO, start: int, end: int) -> bytes | None:
    file.seek(start + 8)
    packed = _packed_profile(file.read(end - start - FRAME_BYTES))
    profile = _unpack(packed, MAX_PROFILE_BYTES) if packed is not None else b""
    return profile if 0 < len(profile) <= MAX_PROFILE_BYTES else None


def _copy_without(file: BinaryIO, dropped: list[tuple[bytes, int, int]]) -> BinaryIO:
    copy, position = io.BytesIO(), 0
    for _, start, end in dropped:
        file.seek(position)
        copy.write(file.read(start - position))
        position = end
    file.seek(position)
    copy.write(file.read())
    copy.seek(0)
    return copy


def _find_refused(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each, in the file's order."""
    num_text_bytes = 0
    for kind, start, length in _list_chunks(file):
        if kind in _TEXTS:
            size = _measure_text(kind, file.read(length))
            num_text_bytes += size
            if size > MAX_TEXT_BYTES or num_text_bytes > MAX_TEXTS_BYTES:
                num_text_bytes -= size
                yield kind, start, start + length + FRAME_BYTES
        elif kind == _PROFILE:
            packed = _packed_profile(file.read(length))
            if packed is None or len(_unpack(packed, PILLOW_PROFILE_BYTES)) > PILLOW_PROFILE_BYTES:
                yield kind, start, start + length + FRAME_BYTES


def _packed_profile(data: bytes) -> bytes | None:
    """None if the profile does not use the only compression method (PNG, third edition, 11.3.2.3)."""
    rest = data.partition(b"\0")[2]
    return rest[1:] if rest[:1] == b"\0" else None


def _list_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and length of each whole chunk; the file is positioned at the chunk's data."""
    size = file.seek(0, io.SEEK_END)
    position = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">L4s", head)
        if position + length + FRAME_BYTES > size:
            return
        yield kind, position, length
        position += length + FRAME_BYTES


def _measure_text(kind: bytes, data: bytes) -> int:
    """The text's size for a reader; never more than one byte beyond MAX_TEXT_BYTES is unpacked."""
    rest = data.partition(b"\0")[2]
    if kind == b"zTXt":
        return len(_unpack(rest[1:], MAX_TEXT_BYTES))
    if kind == b"iTXt" and rest[:1] == b"\1":
        return len(_unpack(rest[2:].partition(b"\0")[2].partition(b"\0")[2], MAX_TEXT_BYTES))
    return len(data)


def _unpack(packed: bytes, max_bytes: int) -> bytes:
    """At most one byte more than ``max_bytes``; empty for data that is not zlib, which Pillow skips too."""
    try:
        return zlib.decompressobj().decompress(packed, max_bytes + 1)
    except zlib.error:
        return b""
