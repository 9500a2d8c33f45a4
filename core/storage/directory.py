"""Objects as files below one directory: the store of a single machine.

A file is written under ``.tmp/`` in the same file system, synced, and renamed to its place; so a crash leaves at most
a file in ``.tmp/``, which the next start removes a day later. Folders are entered one segment at a time without
following links, so nothing in the tree, not even a link created meanwhile, leads out of it.
"""

import errno
import os
import stat as mode
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from core.storage.addresses import WithoutAddresses
from core.storage.keys import check_key, check_prefix, is_segment
from core.storage.protocol import (
    DEFAULT_CONTENT_TYPE,
    InvalidKey,
    ObjectNotFound,
    ObjectStat,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StoredObject,
)
from core.storage.streams import HashingReader, download, forward_only

_TEMPORARY = ".tmp"
_ABANDONED_AFTER_SECONDS = 24 * 3600
_PUBLISH_TRIES = 20
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# A link or a file where a folder would be, a folder where a file would be, or nothing at all.
_MISPLACED = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR}
_KINDS: dict[int, type[StorageError]] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), StorageFull),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY), StorageUnavailable),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), StorageUnavailable),
}


class DirectoryStorage(WithoutAddresses):
    """Objects below ``root``, which is created if it does not exist. Raises StorageError if that fails."""

    def __init__(self, root: Path) -> None:
        with _translated(str(root)):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root = root.resolve()
            self._remove_abandoned()

    def put(self, key: str, source: BinaryIO | bytes, *, content_type: str = DEFAULT_CONTENT_TYPE) -> StoredObject:
        segments = check_key(key)
        reader = HashingReader(source)
        with self._temporary(key) as (folder_fd, name, file_fd):
            for chunk in reader.chunks():
                with _translated(key):
                    _write(file_fd, chunk)
            with _translated(key, misplaced=InvalidKey):
                os.fsync(file_fd)
                self._publish(folder_fd, name, segments)
        return reader.stored_as(key)

    def put_file(self, key: str, path: Path, *, content_type: str = DEFAULT_CONTENT_TYPE) -> StoredObject:
        with path.open("rb") as file:
            return self.put(key, file, content_type=content_type)

    @contextmanager
    def open(self, key: str, *, start: int = 0) -> Iterator[BinaryIO]:
        *folder, name = check_key(key)
        with _translated(key), self._folder(folder) as folder_fd:
            fd = os.open(name, _READ_FLAGS, dir_fd=folder_fd)
        try:
            if not mode.S_ISREG(os.fstat(fd).st_mode):
                raise ObjectNotFound(key)
            os.lseek(fd, start, os.SEEK_SET)
            with forward_only(partial(os.read, fd), partial(_translated, key)) as stream:
                yield stream
        finally:
            os.close(fd)

    def read(self, key: str) -> bytes:
        with self.open(key) as stream:
            return stream.read()

    def fetch(self, key: str, path: Path) -> StoredObject:
        return download(self, key, path)

    def stat(self, key: str) -> ObjectStat | None:
        *folder, name = check_key(key)
        try:
            with _translated(key), self._folder(folder) as folder_fd:
                status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        except ObjectNotFound:
            return None
        return _object_stat(key, status) if mode.S_ISREG(status.st_mode) else None

    def delete(self, key: str) -> None:
        *folder, name = check_key(key)
        with suppress(ObjectNotFound), _translated(key), self._folder(folder) as folder_fd:
            os.unlink(name, dir_fd=folder_fd)
            os.fsync(folder_fd)
        self._remove_empty(folder)

    def delete_prefix(self, prefix: str) -> int:
        if not prefix:
            raise InvalidKey("an empty prefix would delete the whole store")
        count = 0
        for found in self.list(prefix):
            self.delete(found.key)
            count += 1
        return count

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        return self._walk(check_prefix(prefix))

    def check(self) -> None:
        """Writes one page, so that a full or read-only file system is found too."""
        try:
            with self._temporary("check") as (_, _, file_fd), _translated("check"):
                _write(file_fd, bytes(4096))
        except StorageError as error:
            raise StorageUnavailable(f"the directory store at {self._root} cannot be written") from error

    @contextmanager
    def _folder(self, segments: Sequence[str], *, create: bool = False) -> Iterator[int]:
        """A descriptor of a folder, reached without following links."""
        fd = os.open(self._root, _FOLDER_FLAGS)
        try:
            for segment in segments:
                child = _enter(fd, segment, create=create)
                os.close(fd)
                fd = child
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _temporary(self, key: str) -> Iterator[tuple[int, str, int]]:
        """A new file in ``.tmp/``: that folder's descriptor, its name and its own. Deleted unless renamed."""
        name = uuid.uuid4().hex
        with ExitStack() as stack:
            with _translated(key):
                folder_fd = stack.enter_context(self._folder([_TEMPORARY], create=True))
                file_fd = os.open(name, _WRITE_FLAGS, 0o600, dir_fd=folder_fd)
                stack.callback(os.close, file_fd)
            stack.callback(_unlink_if_there, name, folder_fd)
            yield folder_fd, name, file_fd

    def _publish(self, temporary_fd: int, temporary: str, segments: Sequence[str]) -> None:
        """Renames it to the final place. Retries if a concurrent delete has removed the emptied folder meanwhile."""
        *folder, name = segments
        for _ in range(_PUBLISH_TRIES):
            with suppress(FileNotFoundError), self._folder(folder, create=True) as folder_fd:
                os.rename(temporary, name, src_dir_fd=temporary_fd, dst_dir_fd=folder_fd)
                os.fsync(folder_fd)
                return
        raise StorageUnavailable(f"{'/'.join(segments)}: its folder keeps disappearing")

    def _walk(self, folder: Sequence[str]) -> Iterator[ObjectStat]:
        try:
            with _translated("/".join(folder)), self._folder(folder) as folder_fd:
                found = _entries(folder_fd)
        except ObjectNotFound:
            return
        for name, status in found:
            if mode.S_ISDIR(status.st_mode):
                yield from self._walk([*folder, name])
            else:
                yield _object_stat("/".join([*folder, name]), status)

    def _remove_empty(self, folder: Sequence[str]) -> None:
        """Remove a folder and those above it, up to the first that still holds something."""
        with suppress(OSError):
            for depth in range(len(folder), 0, -1):
                with self._folder(folder[: depth - 1]) as parent_fd:
                    os.rmdir(folder[depth - 1], dir_fd=parent_fd)

    def _remove_abandoned(self) -> None:
        """Removes the remains of killed puts: files in ``.tmp/`` that were not written to for a day."""
        oldest = time.time() - _ABANDONED_AFTER_SECONDS
        with self._folder([_TEMPORARY], create=True) as folder_fd, os.scandir(folder_fd) as found:
            for entry in found:
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(entry.name, dir_fd=folder_fd)


def _enter(parent_fd: int, name: str, *, create: bool) -> int:
    if create:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent_fd)
            os.fsync(parent_fd)
    return os.open(name, _FOLDER_FLAGS, dir_fd=parent_fd)


def _entries(folder_fd: int) -> list[tuple[str, os.stat_result]]:
    """Files and folders in the order of the keys they stand for: a folder sorts as its name and a slash."""
    found = []
    for name in filter(is_segment, os.listdir(folder_fd)):
        with suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
            if mode.S_ISDIR(status.st_mode):
                found.append((f"{name}/", name, status))
            elif mode.S_ISREG(status.st_mode):
                found.append((name, name, status))
    return [(name, status) for _, name, status in sorted(found, key=lambda entry: entry[0])]


def _object_stat(key: str, status: os.stat_result) -> ObjectStat:
    return ObjectStat(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _write(file_fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file_fd, left) :]


def _unlink_if_there(name: str, folder_fd: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder_fd)


@contextmanager
def _translated(key: str, misplaced: type[StorageError] = ObjectNotFound) -> Iterator[None]:
    """Render the operating system's errors; ``misplaced`` where files, folders or links are not as the key says."""
    try:
        yield
    except OSError as error:
        if error.errno in _MISPLACED:
            raise misplaced(key) from error
        kind = _KINDS.get(error.errno or 0, StorageError)
        raise kind(f"{key}: {error.strerror}") from error
