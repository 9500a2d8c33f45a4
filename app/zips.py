"""A .zip as a stream: its length is known beforehand, and no file is held in memory. Nothing is compressed."""

import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest of the format: the same files give the same bytes."""
_MODE = (stat.S_IFREG | 0o644) << 16
_UNIX = 3
# APPNOTE.TXT 6.3.10: sections 4.3.7, 4.3.9, 4.3.12, 4.3.16, 4.3.14 with 4.3.15, and 4.5.3 for one number.
_LOCAL_HEADER, _DESCRIPTOR, _DIRECTORY_ENTRY, _END = 30, 16, 46, 22
_END_64, _EXTRA_64 = 56 + 20, 4 + 8


@dataclass(frozen=True)
class ZipEntry:
    """A file of ``size`` bytes; ``read`` yields exactly these, when its turn comes."""

    name: str
    size: int
    read: Callable[[], Iterable[bytes]]


class _Sink:
    """Collects what was written since it was last taken. It cannot seek, so sizes and sums follow each file."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        data, self._pieces = b"".join(self._pieces), []
        return data


def stream_zip(entries: Iterable[ZipEntry]) -> Iterator[bytes]:
    """Raises ValueError if an entry has another size: the length was promised."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]  # only needs write
        for entry in entries:
            with archive.open(_describe(entry.name), "w") as target:
                num_bytes = 0
                for chunk in entry.read():
                    num_bytes += target.write(chunk)
                    yield sink.take()
            if num_bytes != entry.size:
                raise ValueError(f"an entry has {num_bytes} bytes instead of {entry.size}")
    yield sink.take()


def measure_zip(entries: Iterable[ZipEntry]) -> int:
    """The bytes that ``stream_zip`` yields."""
    position = directory = count = 0
    for entry in entries:
        name = len(entry.name.encode())
        directory += _DIRECTORY_ENTRY + name + _EXTRA_64 * (position > zipfile.ZIP64_LIMIT)
        position += _LOCAL_HEADER + name + entry.size + _DESCRIPTOR
        count += 1
    is_large = count > zipfile.ZIP_FILECOUNT_LIMIT or max(position, directory) > zipfile.ZIP64_LIMIT
    return position + directory + _END_64 * is_large + _END


def _describe(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)
    info.create_system, info.external_attr = _UNIX, _MODE
    return info
