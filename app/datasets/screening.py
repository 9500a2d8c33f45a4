"""What can be said of a file at once, from its first and last bytes, so that plain mistakes get their answer
with the upload. Everything else is for the validating worker, which reads it whole, in a sandbox.
"""

import bz2
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from app.datasets.names import kind_of, refuse_kind
from core.domain.dataset import is_image_name
from core.domain.errors import ArchiveRejected, DatasetRejected, ImageRejected, UserError

GLIMPSE_BYTES = 1 << 20
MAX_UNPACKED_BYTES = 8 << 20

_DECOMPRESSORS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\x00": lambda: lzma.LZMADecompressor(memlimit=256 << 20),
}
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


class OutOfSight(Exception):
    """The answer lies in bytes that were not kept."""


class Glimpse:
    """The first and the last mebibyte of a file that streams by; all of it if it is no larger."""

    def __init__(self) -> None:
        self.size = 0
        self.head = bytearray()
        self._tail = bytearray()

    def see(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.head += chunk[: GLIMPSE_BYTES - len(self.head)]
        self._tail += chunk
        if len(self._tail) > 2 * GLIMPSE_BYTES:
            del self._tail[:-GLIMPSE_BYTES]

    @property
    def tail(self) -> bytes:
        return bytes(self._tail[-GLIMPSE_BYTES:])

    @property
    def is_whole(self) -> bool:
        return self.size <= GLIMPSE_BYTES


class TailFile(io.RawIOBase):
    """A file of which only the end is there. Reading before it raises OutOfSight."""

    def __init__(self, glimpse: Glimpse) -> None:
        self._tail = glimpse.tail
        self._start = glimpse.size - len(self._tail)
        self._size = self._position = glimpse.size

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence] + offset
        if position < 0:
            raise OSError("before the start")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        if self._position < self._start:
            raise OutOfSight
        start = self._position - self._start
        data = self._tail[start:] if size < 0 else self._tail[start : start + size]
        self._position += len(data)
        return data


def judge(name: str, glimpse: Glimpse) -> UserError | None:
    """What is surely wrong with a file; None where nothing is, or where only the worker can tell."""
    match kind_of(name):
        case "image":
            return _judge_image(name, glimpse)
        case "archive":
            return _judge_archive(name, glimpse)
        case "other":
            return refuse_kind(name)
        case "caption":
            return None


def _judge_image(name: str, glimpse: Glimpse) -> UserError | None:
    if glimpse.size == 0:
        return ImageRejected(f"{name} is empty. Export the picture again.")
    head = bytes(glimpse.head[:16])
    if head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return None
    return ImageRejected(f"{name} is no PNG, JPEG or WebP picture, whatever its name says. Export it as one of these.")


def _judge_archive(name: str, glimpse: Glimpse) -> UserError | None:
    if glimpse.size == 0:
        return ArchiveRejected(f"{name} is empty, with not a byte in it. Pack it again.")
    try:
        names = _list_zip(glimpse) if name.lower().endswith(".zip") else _list_tar(glimpse)
        return _judge_contents(name, names)
    except OutOfSight:
        return None
    except (zipfile.BadZipFile, tarfile.TarError, OSError, ValueError, NotImplementedError):
        return ArchiveRejected(f"{name} is not the archive that its name says, or is damaged. Pack it again.")


def _judge_contents(name: str, contents: Iterable[str]) -> UserError | None:
    empty = True
    for entry in contents:
        empty = False
        if is_image_name(entry) and not _is_litter(entry):
            return None
    if empty:
        return ArchiveRejected(f"{name} is an empty archive: there is no file in it. Pack it with the images inside.")
    return DatasetRejected(f"{name} holds no image: none of its files ends in .png, .jpg, .jpeg or .webp.")


def _is_litter(name: str) -> bool:
    """macOS packs a hidden twin of each file."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _list_zip(glimpse: Glimpse) -> list[str]:
    """From the directory at the archive's end."""
    with zipfile.ZipFile(TailFile(glimpse)) as archive:
        return [entry.filename for entry in archive.infolist() if not entry.is_dir()]


def _list_tar(glimpse: Glimpse) -> Iterator[str]:
    """Entry by entry from the start. Raises OutOfSight where the entries go on beyond what is there."""
    data, is_whole = _unpack(glimpse)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        try:
            for entry in archive:
                if entry.isfile():
                    yield entry.name
        except tarfile.ReadError:
            if is_whole:
                raise
            raise OutOfSight from None


def _unpack(glimpse: Glimpse) -> tuple[bytes, bool]:
    """The start of what a compressed file holds, never more than MAX_UNPACKED_BYTES; and whether that is all."""
    head = bytes(glimpse.head)
    opener = next((opener for magic, opener in _DECOMPRESSORS.items() if head.startswith(magic)), None)
    if opener is None:
        return head, glimpse.is_whole
    try:
        decompressor = opener()
        data = decompressor.decompress(head, MAX_UNPACKED_BYTES)
    except (zlib.error, lzma.LZMAError, EOFError, OSError):
        raise tarfile.ReadError("damaged") from None
    return data, decompressor.eof
