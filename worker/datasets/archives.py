"""Unpacks archives: .zip, .tar, and tars compressed with gzip, bzip2 or xz.

Only files that a dataset can use are written, under numbers instead of names. Bytes are counted as they arrive,
whatever the headers say. Runs in the decoder's process, whose limits back up the checks here.
"""

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from core.domain.dataset import is_caption_name, is_image_name
from core.domain.errors import ArchiveRejected
from core.domain.filenames import is_hidden_twin, is_os_metadata
from core.domain.image_formats import ACCEPTED, HEAD_BYTES, recognise_format
from core.domain.metadata import is_metadata_name
from worker.datasets.name_encodings import Guess, decode_names
from worker.datasets.names import NameRegister, clean_name, is_nested_archive
from worker.datasets.zip_names import read_zip_names

MAX_ENTRIES = 10_000
MAX_RATIO = 100
# Below this, ratios mean nothing: a few kilobytes of equal captions compress more than a hundredfold.
RATIO_FREE_BYTES = 1 << 20
CHUNK_BYTES = 1 << 16
# The directory of 10,000 entries with paths of 350 characters. zipfile reads it in one piece.
MAX_ZIP_READ_BYTES = 4 << 20
# tarfile reads the whole of an extended header (long names, pax records) in one piece.
MAX_TAR_READ_BYTES = CHUNK_BYTES
XZ_MEMORY_BYTES = 128 << 20
_ZIP_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1
_LOCAL_HEADER_BYTES = 30


@dataclass(frozen=True)
class ExpandLimits:
    """In bytes: of all files together, and of one."""

    max_total_bytes: int
    max_file_bytes: int


@dataclass(frozen=True)
class Entry:
    """A file of an archive: its new name, or the ``problem`` for which it was not written."""

    name: str
    written_as: str | None
    problem: str | None = None


@dataclass(frozen=True)
class Contents:
    """All files of an archive: ``entries``, and the number of litter files. ``names_read_as``: the encoding of the
    names, if it had to be guessed."""

    entries: tuple[Entry, ...]
    num_litter: int = 0
    names_read_as: str | None = None


def expand_archive(archive: Path, filename: str, folder: Path, limits: ExpandLimits) -> Contents:
    """Writes the usable files into ``folder``.

    Raises ArchiveRejected, and the standard library's own exceptions for a damaged archive.
    """
    output = Output(folder, limits.max_file_bytes, _budget_for(archive, limits))
    if filename.lower().endswith(".zip"):
        label = _expand_zip(archive, output)
    else:
        label = _expand_tar(_uncompressed(archive, folder / "archive.tar", _budget_for(archive, limits)), output)
    return Contents(tuple(output.entries), output.num_litter, label)


def _budget_for(archive: Path, limits: ExpandLimits) -> "Budget":
    return Budget(archive.stat().st_size, limits.max_total_bytes)


class Budget:
    """Counts the bytes that an archive unpacks to."""

    def __init__(self, archive_bytes: int, max_total_bytes: int) -> None:
        self._max_ratio_bytes = MAX_RATIO * archive_bytes + RATIO_FREE_BYTES
        self._max_total_bytes = max_total_bytes
        self._total_bytes = 0

    def spend(self, num_bytes: int) -> None:
        """Raises ArchiveRejected."""
        self._total_bytes += num_bytes
        if self._total_bytes > self._max_total_bytes:
            raise ArchiveRejected(
                f"It contains more than {self._max_total_bytes:,} bytes. Split the set, or make the images smaller."
            )
        if self._total_bytes > self._max_ratio_bytes:
            raise ArchiveRejected(
                f"It unpacks to more than {MAX_RATIO} times its size, which no set of images does. "
                "Create it again with only the images and captions."
            )


class Output:
    """Decides for each entry, by its name and size, whether to write it."""

    def __init__(self, folder: Path, max_file_bytes: int, budget: Budget) -> None:
        self._folder, self._max_file_bytes, self._budget = folder, max_file_bytes, budget
        self._names = NameRegister()
        self._num_seen = 0
        self.num_litter = 0
        self.entries: list[Entry] = []

    def count(self) -> None:
        """Must be called for every listed entry. Raises ArchiveRejected."""
        self._num_seen += 1
        if self._num_seen > MAX_ENTRIES:
            raise ArchiveRejected(f"It has more than {MAX_ENTRIES:,} entries. Split the set.")

    def add(self, raw_name: str, declared_bytes: int, open_entry: Callable[[], IO[bytes]]) -> None:
        """Raises ArchiveRejected."""
        name = clean_name(raw_name)
        if not name:
            raise ArchiveRejected("It contains a file without a name. Create it again.")
        if is_os_metadata(name) and not (is_hidden_twin(name) and _begins_as_image(open_entry)):
            self.num_litter += 1
            return
        self._names.add(name)
        problem = self._judge(name, declared_bytes, open_entry)
        written_as = None if problem else f"{len(self.entries):06d}"
        if written_as:
            with open_entry() as source, (self._folder / written_as).open("xb") as target:
                self._copy(source, target)
                if target.tell() != declared_bytes:
                    raise ArchiveRejected(f'"{name}" in it is not as long as its header says. Create it again.')
        self.entries.append(Entry(name, written_as, problem))

    def _judge(self, name: str, declared_bytes: int, open_entry: Callable[[], IO[bytes]]) -> str | None:
        if is_nested_archive(name):
            raise ArchiveRejected(f'It contains another archive: "{name}". Unpack that one first.')
        if not is_usable_name(name) and not _begins_as_image(open_entry):
            return NOT_USABLE
        if declared_bytes > self._max_file_bytes:
            return f"It is larger than {self._max_file_bytes:,} bytes: make it smaller."
        return None

    def _copy(self, source: IO[bytes], target: BinaryIO) -> None:
        for chunk in iter(partial(source.read, CHUNK_BYTES), b""):
            self._budget.spend(len(chunk))
            target.write(chunk)


def _begins_as_image(open_entry: Callable[[], IO[bytes]]) -> bool:
    with open_entry() as source:
        return recognise_format(source.read(HEAD_BYTES)) is not None


NOT_USABLE = (
    f"It is neither an image in an accepted format ({ACCEPTED}) nor, by its name, a caption (.txt, .caption, "
    "metadata.jsonl or .csv)."
)


def is_usable_name(name: str) -> bool:
    return is_image_name(name) or is_caption_name(name) or is_metadata_name(name)


class BoundedFile:
    """A file that returns at most ``max_read_bytes`` at once, and in total at most a few times its size.

    The standard library's parsers believe the lengths that an archive states (CVE-2025-8194 is a loop over a negative
    one); so memory and time are limited here, beneath them.
    """

    def __init__(self, file: BinaryIO, max_read_bytes: int) -> None:
        self._file, self._max_read_bytes = file, max_read_bytes
        self._left = 4 * file.seek(0, 2) + (1 << 20)
        file.seek(0)
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._max_read_bytes + 1 if size < 0 else min(size, self._max_read_bytes + 1))
        self._left -= len(data)
        if len(data) > self._max_read_bytes or self._left < 0:
            raise ArchiveRejected("Its directory or a header in it is implausibly large. Create it again.")
        return data


# --- zip -----------------------------------------------------------------------------------------------


def _expand_zip(path: Path, output: Output) -> str | None:
    """The encoding of its names, if that was a guess."""
    with path.open("rb") as file:
        bounded = cast(BinaryIO, BoundedFile(file, MAX_ZIP_READ_BYTES))
        if not zipfile.is_zipfile(bounded):
            raise ArchiveRejected("It is not a ZIP archive, despite its name. Create it again, or rename it.")
        with zipfile.ZipFile(bounded) as archive:
            infos = archive.infolist()
            guess = read_zip_names(infos)
            for info, name in zip(infos, guess.names, strict=True):
                output.count()
                _check_zip_entry(info, clean_name(name))
            _check_overlaps(file, archive)
            for info, name in zip(infos, guess.names, strict=True):
                if not name.replace("\\", "/").endswith("/"):  # zipfile's own is_dir fails on an empty name
                    output.add(name, info.file_size, partial(archive.open, info))
            return guess.label


def _check_zip_entry(info: zipfile.ZipInfo, name: str) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveRejected(f'It contains a link or device: "{name}". Replace it by the file itself.')
    if info.flag_bits & _ENCRYPTED:
        raise ArchiveRejected(f'It is encrypted: "{name}". Create it again without a password.')
    if info.compress_type not in _ZIP_METHODS:
        raise ArchiveRejected(
            f'"{name}" in it uses an uncommon compression. Create it again with the usual one (deflate).'
        )


def _check_overlaps(file: BinaryIO, archive: zipfile.ZipFile) -> None:
    """Entries that share bytes allow bombs of any ratio. Python checks for them only since 3.11.8 (CVE-2024-0450)."""
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    starts = [info.header_offset for info in infos] + [archive.start_dir]
    for info, following in zip(infos, starts[1:], strict=True):
        if _end_of(file, info) > following:
            raise ArchiveRejected("Entries in it overlap, which no ordinary archive does. Create it again.")


def _end_of(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER_BYTES)
    num_name_bytes, num_extra_bytes = struct.unpack("<HH", header[26:30])
    return int(info.header_offset + _LOCAL_HEADER_BYTES + num_name_bytes + num_extra_bytes + info.compress_size)


# --- tar -----------------------------------------------------------------------------------------------


def _expand_tar(path: Path, output: Output) -> str | None:
    """The encoding of its names, if that was a guess."""
    guess = _read_tar_names(path)
    names = iter(guess.names)
    with path.open("rb") as file, _open_tar(file) as archive:
        for member in _walk_tar(archive):
            name = next(names, "")
            output.count()
            _check_tar_member(member, clean_name(name))
            if member.isreg():
                output.add(name, member.size, partial(_open_member, archive, member))
        _check_tar_end(file, archive.offset)
    return guess.label


def _open_tar(file: BinaryIO) -> tarfile.TarFile:
    bounded = cast(BinaryIO, BoundedFile(file, MAX_TAR_READ_BYTES))
    return tarfile.open(fileobj=bounded, mode="r:", encoding="utf-8", errors="surrogateescape")


def _walk_tar(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        yield member
        cast(Any, archive).members.clear()  # or it would keep them all, with their extended headers


def _read_tar_names(path: Path) -> Guess:
    """The names of all members, or of as many as are allowed. Those that are not UTF-8 are guessed together."""
    with path.open("rb") as file, _open_tar(file) as archive:
        names = [member.name for member in islice(_walk_tar(archive), MAX_ENTRIES)]
    raw = {name: name.encode("utf-8", "surrogateescape") for name in names}
    foreign = [name for name in names if not _is_unicode(name)]
    guess = decode_names([raw[name] for name in foreign])
    read = dict(zip(foreign, guess.names, strict=True))
    return Guess(tuple(read.get(name, name) for name in names), guess.label)


def _is_unicode(name: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _check_tar_member(member: tarfile.TarInfo, name: str) -> None:
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise ArchiveRejected(f'It contains a link, device or sparse file: "{name}". Use plain files only.')
    if member.size < 0:
        raise ArchiveRejected(f'"{name}" in it has an impossible size. Create it again.')


def _check_tar_end(file: BinaryIO, offset: int) -> None:
    """tarfile treats a damaged header, or the end of the file, as the end of the archive: the rest would be lost."""
    file.seek(offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ArchiveRejected("It is damaged in the middle, or cut short. Create it again.")


def _open_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    source = archive.extractfile(member)
    if source is None:
        raise ArchiveRejected(f'"{member.name}" in it is not a plain file.')
    return source


def _uncompressed(archive: Path, target: Path, budget: Budget) -> Path:
    """The plain tar, for tarfile to seek in."""
    with archive.open("rb") as file:
        magic = file.read(6)
    for signature, read_chunks in _COMPRESSIONS.items():
        if magic.startswith(signature):
            with target.open("xb") as output:
                for chunk in read_chunks(archive):
                    budget.spend(len(chunk))
                    output.write(chunk)
            return target
    return archive


def _read_gzip(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as file:
        yield from iter(partial(file.read, CHUNK_BYTES), b"")


def _read_bzip2(path: Path) -> Iterator[bytes]:
    with bz2.open(path) as file:
        yield from iter(partial(file.read, CHUNK_BYTES), b"")


def _read_xz(path: Path) -> Iterator[bytes]:
    """lzma.open would allow a dictionary of 4 GiB to any file."""
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)
    with closing(path.open("rb")) as file:
        while not decompressor.eof:
            data = file.read(CHUNK_BYTES) if decompressor.needs_input else b""
            if decompressor.needs_input and not data:
                raise EOFError("the xz stream ends too early")
            yield decompressor.decompress(data, CHUNK_BYTES)


_COMPRESSIONS: dict[bytes, Callable[[Path], Iterator[bytes]]] = {
    b"\x1f\x8b": _read_gzip,
    b"BZh": _read_bzip2,
    b"\xfd7zXZ\x00": _read_xz,
}
