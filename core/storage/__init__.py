"""Storage for objects: a directory, an S3 bucket, or memory, behind one protocol."""

import re
from pathlib import Path

from core.settings import Settings
from core.storage.cleaning import delete_others
from core.storage.directory import DirectoryStorage
from core.storage.memory import MemoryStorage
from core.storage.protocol import (
    DEFAULT_CONTENT_TYPE,
    MAX_DOWNLOAD_URL_SECONDS,
    MAX_UPLOAD_URL_SECONDS,
    InvalidKey,
    ObjectNotFound,
    ObjectStat,
    PresignedUpload,
    Storage,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StoredObject,
)

__all__ = [
    "DEFAULT_CONTENT_TYPE",
    "MAX_DOWNLOAD_URL_SECONDS",
    "MAX_UPLOAD_URL_SECONDS",
    "DirectoryStorage",
    "InvalidKey",
    "MemoryStorage",
    "ObjectNotFound",
    "ObjectStat",
    "PresignedUpload",
    "Storage",
    "StorageError",
    "StorageFull",
    "StorageUnavailable",
    "StoredObject",
    "delete_others",
    "open_storage",
    "open_store_of",
]

_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://.*")


def open_store_of(settings: Settings) -> Storage:
    """The configured store. Raises ValueError, and StorageError for an unusable directory."""
    return open_storage(
        settings.storage_location,
        s3_endpoint_url=settings.s3_endpoint_url,
        s3_public_endpoint_url=settings.s3_public_endpoint_url,
    )


def open_storage(
    location: str, *, s3_endpoint_url: str | None = None, s3_public_endpoint_url: str | None = None
) -> Storage:
    """The store at a directory's path, ``s3://bucket/prefix`` or ``memory://``. ValueError for anything else.

    Opens no connection to S3: ``check()`` does. Open it after a fork, not before.
    """
    parsed = _SCHEME.fullmatch(location)
    if parsed is None and location:
        return DirectoryStorage(Path(location).expanduser())
    if location == "memory://":
        return MemoryStorage()
    if parsed and parsed["scheme"] == "s3":
        # Imported here: importing boto3 takes a third of a second, which a directory store does not need.
        from core.storage.s3 import S3Storage, split_location

        bucket, prefix = split_location(location)
        # An empty variable, as in compose files, is not an address.
        endpoint, public_endpoint = s3_endpoint_url or None, s3_public_endpoint_url or None
        return S3Storage(bucket, prefix, endpoint_url=endpoint, public_endpoint_url=public_endpoint)
    raise ValueError(f"a storage location is a directory, s3://bucket/prefix or memory://, not {location!r}")
