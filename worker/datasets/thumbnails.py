"""Thumbnails of images, which the decoder has written."""

from pathlib import Path

from core.domain.artifacts import Artifact, thumbnail_key
from core.storage import Storage


def store_thumbnail(storage: Storage, dataset_id: str, sha256: str, path: Path) -> Artifact | None:
    """``sha256``: the image's. None if none was written. Raises StorageError."""
    if not path.exists():
        return None
    stored = storage.put_file(thumbnail_key(dataset_id, sha256), path, content_type="image/webp")
    return Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)
