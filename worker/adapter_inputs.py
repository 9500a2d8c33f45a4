"""Fetches adapters' files for the programs that read them."""

from pathlib import Path

from core.domain.artifacts import Artifact
from core.storage import ObjectNotFound, Storage


class InputLost(Exception):
    """A file on record that cannot be read any more. ``str(error)`` says what became of it."""


def fetch_input(storage: Storage, file: Artifact, path: Path) -> Path:
    """Raises InputLost, and StorageError for a store that does not respond."""
    try:
        stored = storage.fetch(file.key, path)
    except ObjectNotFound:
        raise InputLost("is gone from storage") from None
    if stored.sha256 != file.sha256:
        raise InputLost("was damaged in storage")
    return path
