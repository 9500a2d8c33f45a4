"""Faults that a file's first and last bytes show, so that plain mistakes are answered with the upload. The validating
worker does everything else: it reads the whole file, in a sandbox.

This runs in the service's own process, so the input is bounded, and the work grows with it alone. Hence there is no
``tarfile`` here, in which crafted headers have cost minutes (CVE-2024-6232, CVE-2025-8194).
"""

import bz2
import io
import lzma
import struct
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from app.datasets.names import kind_of, may_be_image, refuse_kind
from core.domain.dataset import IMAGE_SUFFIXES, is_archive_name, is_image_name
from core.domain.errors import ArchiveRejected, DatasetRejected, ImageRejected, UserError
from core.domain.filenames import is_os_metadata
from core.domain.image_formats import HEAD_BYTES, describe_unaccepted, recognise_format

PRECHECK_BYTES = 1 << 20
SMALL_BYTES = 1 << 16
MAX_UNPACKED_BYTES = 8 << 20
XZ_MEMORY_BYTES = 128 << 20
"""The worker accepts no larger dictionary either."""
TAR_BLOCK_BYTES = 512

_DECOMPRESSORS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\x00": lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES),
}


class NeedsFullRead(Exception):
    """The answer depends on bytes that were not kept, or takes more work."""


class Damaged(Exception):
    """Not the archive that its name claims."""


class HeadAndTail:
    """The first and the last mebibyte of a streamed file; all of it if it is no larger. The last is kept as the chunks
    that it came in, and only of an archive whose directory is there: there may be many uploads at once."""

    def __init__(self, *, keeps_tail: bool = True) -> None:
        self._keeps_tail = keeps_tail
        self.size = 0
        self.head = bytearray()
        self._tail: deque[bytes | bytearray] = deque()
        self._tail_bytes = 0

    def see(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.head += chunk[: PRECHECK_BYTES - len(self.head)]
        if self._keeps_tail and chunk:
            self._keep(chunk)

    def _keep(self, chunk: bytes) -> None:
        if len(chunk) >= SMALL_BYTES:
            self._tail.append(chunk)
        elif self._tail and isinstance(self._tail[-1], bytearray) and len(self._tail[-1]) < SMALL_BYTES:
            self._tail[-1] += chunk  # a client that sends single bytes must not fill the memory with objects
        else:
            self._tail.append(bytearray(chunk))
        self._tail_bytes += len(chunk)
        while self._tail_bytes - len(self._tail[0]) >= PRECHECK_BYTES:
            self._tail_bytes -= len(self._tail.popleft())

    @property
    def tail(self) -> bytes:
        return b"".join(self._tail)[-PRECHECK_BYTES:]


class TailFile(io.RawIOBase):
    """A file of which only the end is kept. Reading before it raises OutOfSight."""

    def __init__(self, head_and_tail: HeadAndTail) -> None:
        self._tail = head_and_tail.tail
        self._start = head_and_tail.size - len(self._tail)
        self._size = self._position = head_and_tail.size

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
            raise NeedsFullRead
        start = self._position - self._start
        data = self._tail[start:] if size < 0 else self._tail[start : start + size]
        self._position += len(data)
        return data


def is_judged_by_its_end(name: str) -> bool:
    return name.lower().endswith(".zip")


def precheck(name: str, head_and_tail: HeadAndTail) -> UserError | None:
    """A certain fault of a file; None if there is none, or if only the worker can tell."""
    match kind_of(name):
        case "image":
            return _precheck_image(name, head_and_tail)
        case "archive":
            return _precheck_archive(name, head_and_tail)
        case "other":
            return None if recognise_format(bytes(head_and_tail.head[:HEAD_BYTES])) else refuse_kind(name)
        case "caption":
            return None


def _precheck_image(name: str, head_and_tail: HeadAndTail) -> UserError | None:
    head = bytes(head_and_tail.head[:HEAD_BYTES])
    return None if recognise_format(head) else ImageRejected(f"{name}: {describe_unaccepted(head)}")


def _precheck_archive(name: str, head_and_tail: HeadAndTail) -> UserError | None:
    if head_and_tail.size == 0:
        return ArchiveRejected(f"{name} is empty. Pack it again.")
    try:
        names = _list_zip(head_and_tail) if is_judged_by_its_end(name) else _list_tar(head_and_tail)
        return _precheck_contents(name, names)
    except NeedsFullRead:
        return None
    except (Damaged, zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        return ArchiveRejected(f"{name} is not the type of archive that its name claims, or is damaged. Pack it again.")


def _precheck_contents(name: str, contents: Iterable[str]) -> UserError | None:
    empty = True
    for entry in contents:
        empty = False
        if is_archive_name(entry) or (may_be_image(entry) and not is_os_metadata(entry.replace("\\", "/"))):
            return None  # the worker reports the faults of an archive within it
    if empty:
        return ArchiveRejected(f"{name} is an empty archive. Pack it with the images inside.")
    return DatasetRejected(
        f"{name} holds no image: no file in it has an image's suffix ({', '.join(sorted(IMAGE_SUFFIXES))})."
    )


def _list_zip(head_and_tail: HeadAndTail) -> list[str]:
    """From the directory at the archive's end."""
    with zipfile.ZipFile(TailFile(head_and_tail)) as archive:
        return [entry.filename for entry in archive.infolist() if not entry.filename.endswith("/")]


def _list_tar(head_and_tail: HeadAndTail) -> Iterator[str]:
    """Entry by entry from the start. Raises Damaged, or OutOfSight if only a complete reading would tell."""
    data, position, is_renamed = _unpack(head_and_tail), 0, False
    while any(header := data[position : position + TAR_BLOCK_BYTES]):
        kind, size = _read_tar_header(header, is_first=position == 0)
        if kind in b"Lxg":  # the next entry's true name: mostly one that is too long for its header
            is_renamed = True
        elif kind in b"0\0":
            name = _read_tar_name(header)
            if is_renamed and not is_image_name(name):
                raise NeedsFullRead
            is_renamed = False
            yield name
        elif kind != b"5":
            raise NeedsFullRead
        position += TAR_BLOCK_BYTES + -(-size // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES
    if len(header) < TAR_BLOCK_BYTES:  # an archive ends with a block of zeros
        raise NeedsFullRead


def _read_tar_header(header: bytes, *, is_first: bool) -> tuple[bytes, int]:
    """The entry's kind, and the size of its contents in bytes."""
    if len(header) < TAR_BLOCK_BYTES or _read_octal(header[148:156]) not in _sum_tar_header(header):
        raise Damaged if is_first else NeedsFullRead
    size = _read_octal(header[124:136])
    if size is None:
        raise NeedsFullRead
    return header[156:157], size


def _sum_tar_header(header: bytes) -> tuple[int, int]:
    """The standard checksum, or that of some old programs, over signed bytes."""
    counted = header[:148] + b" " * 8 + header[156:]
    total = sum(counted)
    return total, total - 256 * sum(byte > 127 for byte in counted)


def _read_octal(field: bytes) -> int | None:
    """None for anything else, such as the binary numbers of files that would not fit a dataset anyway."""
    try:
        number = int(field.split(b"\0", 1)[0].strip() or b"0", 8)
    except ValueError:
        return None
    return number if number >= 0 else None


def _read_tar_name(header: bytes) -> str:
    name, folder = (part.split(b"\0", 1)[0] for part in (header[:100], header[345:500]))
    path = folder + b"/" + name if folder and header[257:262] == b"ustar" else name
    return path.decode("utf-8", "replace")


def _unpack(head_and_tail: HeadAndTail) -> bytes:
    """The start of a compressed file's content, never more than MAX_UNPACKED_BYTES. Raises Damaged."""
    head = bytes(head_and_tail.head)
    opener = next((opener for magic, opener in _DECOMPRESSORS.items() if head.startswith(magic)), None)
    if opener is None:
        return head
    try:
        data: bytes = opener().decompress(head, MAX_UNPACKED_BYTES)
    except (zlib.error, lzma.LZMAError, EOFError, OSError):
        raise Damaged from None
    return data
