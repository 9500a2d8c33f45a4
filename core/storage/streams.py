"""Reading in pieces, hashing on the way."""

import hashlib
import io
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from core.storage.protocol import Storage, StoredObject

CHUNK_BYTES = 1 << 18


class HashingReader:
    """Returns a source's bytes in pieces of the requested size, and knows the hash and the number of those returned."""

    def __init__(self, source: BinaryIO | bytes) -> None:
        self._source = io.BytesIO(source) if isinstance(source, bytes) else source
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes; fewer only at the end of the source."""
        pieces = []
        while size > 0 and (piece := self._source.read(size)):
            pieces.append(piece)
            size -= len(piece)
        return self._note(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def chunks(self) -> Iterator[bytes]:
        """The remaining bytes as the source gives them, in pieces of at most 256 KiB."""
        while piece := self._source.read(CHUNK_BYTES):
            yield self._note(piece)

    def _note(self, data: bytes) -> bytes:
        self._hash.update(data)
        self.size += len(data)
        return data

    def hash_ahead(self) -> str | None:
        """The hash that reading to the end will give, or None if the source cannot be rewound to where it is."""
        if not self._source.seekable():
            return None
        start, ahead = self._source.tell(), self._hash.copy()
        while piece := self._source.read(CHUNK_BYTES):
            ahead.update(piece)
        self._source.seek(start)
        return ahead.hexdigest()

    def stored_as(self, key: str) -> StoredObject:
        return StoredObject(key, self.size, self.sha256)


class ObjectReader(io.RawIOBase):
    """A forward-only stream that converts a store's failures into StorageErrors.

    The same for every store, so that code which works on one (and seeks, say) does not fail on another.
    """

    def __init__(self, read: Callable[[int], bytes], translated: Callable[[], AbstractContextManager[None]]) -> None:
        self._read = read
        self._translated = translated

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview[int]") -> int:  # type: ignore[override]
        with self._translated():
            data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def forward_only(read: Callable[[int], bytes], translated: Callable[[], AbstractContextManager[None]]) -> BinaryIO:
    """A buffered stream over ``read``; ``translated`` is entered around each call of it."""
    return io.BufferedReader(ObjectReader(read, translated), CHUNK_BYTES)


def download(storage: Storage, key: str, path: Path) -> StoredObject:
    """Copies an object to a file beside ``path``, then renames it: ``path`` is never a part of the object."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with storage.open(key) as source, partial.open("xb") as file:
            reader = HashingReader(source)
            for chunk in reader.chunks():
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return reader.stored_as(key)
