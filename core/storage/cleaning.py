"""Deletes the objects of a folder that are not needed any more."""

from core.storage.protocol import Storage


def delete_others(storage: Storage, prefix: str, needed: frozenset[str]) -> int:
    """All objects under ``prefix`` except the keys ``needed``; returns their number."""
    if not needed:
        return storage.delete_prefix(prefix)
    unneeded = [found.key for found in storage.list(prefix) if found.key not in needed]
    for key in unneeded:
        storage.delete(key)
    return len(unneeded)
