"""Hashes of a base's files."""

import hashlib
from pathlib import Path

from core.model_folders import CARD


def hash_folder(folder: Path) -> str:
    """SHA-256 over every file but the card, by relative path."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name not in {CARD, "README.md"} and path.suffix != ".png":
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(bytes.fromhex(hash_file(path)))
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
