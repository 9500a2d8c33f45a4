"""The promises of every object store, whatever it is made of.

StorageError                      the store refused, and retrying will not help (credentials, bucket, policy)
├── InvalidKey                    not a key that the service would make (also a ValueError)
├── ObjectNotFound                no object under this key
├── StorageFull                   no room left, or over a quota: an operator must act
└── StorageUnavailable            network, 5xx, "slow down": the same call may succeed later

All stores promise, and tests check for all:

- An object is whole or absent. No reader sees a part of one, neither while it is written nor after a crash, and an
exception while its source is read leaves nothing behind. That exception reaches the caller unchanged.
- A put over an existing key replaces it at once; of two racing puts one whole object stays.
- Data passes in pieces: memory does not grow with an object's size (the in-memory store excepted).
- Listings are in ascending order of the keys' bytes.
- Every method may be called from several threads at once.

Not promised: that ``a`` and ``a/b`` can both be objects (a directory cannot hold both), that a content type is
kept, or that ``ObjectStat.sha256`` is known. The hash of record is the one that ``put`` returned.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

DEFAULT_CONTENT_TYPE = "application/octet-stream"
MAX_UPLOAD_URL_SECONDS = 15 * 60
MAX_DOWNLOAD_URL_SECONDS = 7 * 24 * 3600
"""Signature version 4 allows no longer."""


class StorageError(Exception):
    """Base of the tree."""


class InvalidKey(StorageError, ValueError):
    """Not a key that the service would make."""


class ObjectNotFound(StorageError):
    """No object under this key."""


class StorageFull(StorageError):
    """No room left, or over a quota."""


class StorageUnavailable(StorageError):
    """The store does not respond, or not now: try again later."""


@dataclass(frozen=True)
class StoredObject:
    """The transferred bytes: ``size`` in bytes, ``sha256`` in hexadecimal."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ObjectStat:
    """The store's record of an object: ``size`` in bytes, ``modified`` in UTC.

    ``sha256`` (hexadecimal) is None if the store has not recorded one, and in listings.
    """

    key: str
    size: int
    modified: datetime
    sha256: str | None = None


@dataclass(frozen=True)
class PresignedUpload:
    """A request that a client without credentials may send once or more until ``expires_at`` (UTC).

    All of ``headers`` must be sent unchanged: they are part of the signature.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    expires_at: datetime


class Storage(Protocol):
    """Objects under keys such as ``jobs/job_01J…/a1/adapter.safetensors``; see ``core.storage.keys`` for the rules.

    Every method that takes a key or a prefix raises InvalidKey for a bad one, and any of them StorageUnavailable.
    A prefix names a folder, with or without its last slash: ``jobs/1`` does not reach into ``jobs/10``.
    """

    def put(self, key: str, source: BinaryIO | bytes, *, content_type: str = DEFAULT_CONTENT_TYPE) -> StoredObject:
        """Store all remaining bytes of ``source``. Raises StorageFull."""
        ...

    def put_file(self, key: str, path: Path, *, content_type: str = DEFAULT_CONTENT_TYPE) -> StoredObject:
        """Store a local file. Raises StorageFull; OSError for the local file."""
        ...

    def open(self, key: str, *, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """Read an object as a stream that cannot seek, from the byte ``start`` on, which must be one of the object's
        unless it is 0. Raises ObjectNotFound."""
        ...

    def read(self, key: str) -> bytes:
        """The whole of a small object. Raises ObjectNotFound."""
        ...

    def fetch(self, key: str, path: Path) -> StoredObject:
        """Copy an object to a local file, whole or not at all. Raises ObjectNotFound; OSError for the local file.

        The hash is of the bytes that arrived: compare it with the one on record.
        """
        ...

    def stat(self, key: str) -> ObjectStat | None:
        """The record of an object, or None if there is none."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; a missing one is not an error."""
        ...

    def delete_prefix(self, prefix: str) -> int:
        """Remove all objects in a folder and below it; returns their number. An empty prefix is an InvalidKey."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """The objects in a folder and below it; all of the store's for an empty prefix."""
        ...

    def download_url(self, key: str, *, filename: str, content_type: str, expires_seconds: int) -> str | None:
        """An address that gives the object to anyone, or None if clients cannot reach the store.

        Does not check that the object exists. ValueError for an expiry out of bounds.
        """
        ...

    def upload_url(
        self, key: str, *, size: int, sha256_base64: str, content_type: str, expires_seconds: int
    ) -> PresignedUpload | None:
        """An address that accepts this very object and no other, or None if clients cannot reach the store.

        Key, length in bytes and checksum are signed. ValueError for more than 15 minutes, or a bad size or checksum.
        """
        ...

    def check(self) -> None:
        """Answer within seconds whether the store can be used. Raises StorageUnavailable, whatever the cause."""
        ...
