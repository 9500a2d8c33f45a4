"""From a streamed body to storage: whole or not at all, and never much of it in memory."""

import asyncio
import hashlib
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from anyio import CapacityLimiter

from app.storing import storing
from core.storage import DirectoryStorage, MemoryStorage, Storage, StorageFull, StoredObject
from tests.fixtures.servers import wait_for

MEBIBYTE = 1 << 20


async def store(storage: Storage, chunks: list[bytes], error: Exception | None = None) -> StoredObject:
    async with storing(storage, "a/b", CapacityLimiter(1)) as writer:
        for chunk in chunks:
            await writer.write(chunk)
        if error is not None:
            raise error
    return writer.stored


def test_what_is_written_is_stored() -> None:
    storage = MemoryStorage()
    chunks = [b"", b"one", b"", b"two" * 100_000, b"three"]
    stored = asyncio.run(store(storage, chunks))
    assert storage.read("a/b") == b"".join(chunks)
    assert (stored.size, stored.sha256) == (len(b"".join(chunks)), hashlib.sha256(b"".join(chunks)).hexdigest())


def test_nothing_written_is_an_empty_object() -> None:
    storage = MemoryStorage()
    assert asyncio.run(store(storage, [])).size == 0
    assert storage.read("a/b") == b""


def test_an_error_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path / "store")
    with pytest.raises(ValueError, match="mine"):
        asyncio.run(store(storage, [b"x" * MEBIBYTE] * 3, ValueError("mine")))
    assert list(storage.list("")) == []
    assert list((tmp_path / "store" / ".tmp").iterdir()) == []


def test_an_error_of_the_store_reaches_the_writer() -> None:
    class FullStorage(MemoryStorage):
        def put(self, key: str, source: Any, **_: Any) -> StoredObject:
            source.read(10)
            raise StorageFull(key)

    with pytest.raises(StorageFull):
        asyncio.run(store(FullStorage(), [b"x" * MEBIBYTE] * 100))


def test_cancelling_leaves_nothing_and_no_thread(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path / "store")
    before = set(threading.enumerate())

    async def cancel_midway() -> None:
        task = asyncio.create_task(store_forever(storage))
        while not list((tmp_path / "store" / ".tmp").iterdir()):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_midway())
    assert list(storage.list("")) == []
    assert list((tmp_path / "store" / ".tmp").iterdir()) == []
    wait_for(lambda: set(threading.enumerate()) <= before)


async def store_forever(storage: Storage) -> None:
    async with storing(storage, "a/b", CapacityLimiter(1)) as writer:
        while True:
            await writer.write(b"x")
            await asyncio.sleep(0.001)


def test_memory_does_not_grow_with_the_body(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path / "store")
    chunk = bytes(65536)

    async def store_much() -> None:
        async with storing(storage, "a/b", CapacityLimiter(1)) as writer:
            for _ in range(1600):
                await writer.write(chunk)

    tracemalloc.start()
    asyncio.run(store_much())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert storage.stat("a/b").size == 100 * MEBIBYTE  # type: ignore[union-attr]
    assert peak < 8 * MEBIBYTE
