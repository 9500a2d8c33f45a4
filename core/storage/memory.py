"""The in-memory store: the same promises in one process, for tests."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from core.storage.addresses import WithoutAddresses
from core.storage.keys import check_key, check_prefix
from core.storage.protocol import (
    DEFAULT_CONTENT_TYPE,
    InvalidKey,
    ObjectNotFound,
    ObjectStat,
    StoredObject,
)
from core.storage.streams import HashingReader, download, forward_only


class MemoryStorage(WithoutAddresses):
    """Objects in a dict; gone with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, ObjectStat]] = {}

    def put(self, key: str, source: BinaryIO | bytes, *, content_type: str = DEFAULT_CONTENT_TYPE) -> StoredObject:
        check_key(key)
        reader = HashingReader(source)
        data = b"".join(reader.chunks())
        with self._lock:
            self._objects[key] = data, ObjectStat(key, reader.size, datetime.now(UTC), reader.sha256)
        return reader.stored_as(key)

    def put_file(self, key: str, path: Path, *, content_type: str = DEFAULT_CONTENT_TYPE) -> StoredObject:
        with path.open("rb") as file:
            return self.put(key, file, content_type=content_type)

    @contextmanager
    def open(self, key: str, *, start: int = 0) -> Iterator[BinaryIO]:
        with forward_only(io.BytesIO(self.read(key)[start:]).read, nullcontext) as stream:
            yield stream

    def read(self, key: str) -> bytes:
        check_key(key)
        with self._lock:
            if key not in self._objects:
                raise ObjectNotFound(key)
            return self._objects[key][0]

    def fetch(self, key: str, path: Path) -> StoredObject:
        return download(self, key, path)

    def stat(self, key: str) -> ObjectStat | None:
        check_key(key)
        with self._lock:
            return self._objects[key][1] if key in self._objects else None

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def delete_prefix(self, prefix: str) -> int:
        if not prefix:
            raise InvalidKey("an empty prefix would delete the whole store")
        keys = [stat.key for stat in self.list(prefix)]
        with self._lock:
            return sum(self._objects.pop(key, None) is not None for key in keys)

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        segments = check_prefix(prefix)
        with self._lock:
            stats = [stat for _, stat in self._objects.values()]
        inside = [stat for stat in stats if segments == tuple(stat.key.split("/"))[:-1][: len(segments)]]
        return (ObjectStat(stat.key, stat.size, stat.modified) for stat in sorted(inside, key=lambda stat: stat.key))

    def check(self) -> None:
        return None
