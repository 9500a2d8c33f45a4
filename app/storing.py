"""From a body that arrives in the event loop to a store that reads in a thread, at constant memory."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from io import RawIOBase
from typing import BinaryIO, cast

import anyio
from anyio import BrokenResourceError, CapacityLimiter, EndOfStream, WouldBlock
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from core.storage import Storage, StoredObject

BUFFERED_CHUNKS = 4
"""The server reads up to 256 KiB at a time."""
SMALL_BYTES = 1 << 16


class Abandoned(Exception):
    """Raised in the store when the body ends early: the store then keeps nothing."""


class ChunkReader(RawIOBase):
    """The thread's end: blocks until the event loop has sent more."""

    def __init__(self, chunks: MemoryObjectReceiveStream[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._chunks = chunks
        self._loop = loop
        self._waiting: deque[bytes] = deque()
        self.abandoned = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, empty at the end; blocks until there are some. A chunk is only copied if it is
        larger."""
        if not self._waiting:
            self._waiting += self._next()
        if not self._waiting:
            return b""
        chunk = self._waiting.popleft()
        if 0 <= size < len(chunk):
            self._waiting.appendleft(chunk[size:])
            return chunk[:size]
        return chunk

    def close_source(self) -> None:
        """Tells a writer that is still sending that the reader has gone."""
        self._chunks.close()

    def _next(self) -> list[bytes]:
        try:
            return asyncio.run_coroutine_threadsafe(self._receive(), self._loop).result()
        except EndOfStream:
            if self.abandoned:
                raise Abandoned from None
            return []

    async def _receive(self) -> list[bytes]:
        """All waiting chunks: one crossing between the threads brings many. Small ones as one."""
        chunks = [await self._chunks.receive()]
        with suppress(WouldBlock, EndOfStream):
            while True:
                chunks.append(self._chunks.receive_nowait())
        return chunks if sum(map(len, chunks)) >= SMALL_BYTES else [b"".join(chunks)]


class Writer:
    """The event loop's end. ``stored`` is set when the block has ended."""

    def __init__(self, chunks: MemoryObjectSendStream[bytes], put: asyncio.Task[StoredObject]) -> None:
        self._chunks = chunks
        self._put = put
        self.stored: StoredObject

    async def write(self, chunk: bytes) -> None:
        """Waits while the store is behind. Raises the store's exception."""
        if not chunk:
            return
        try:
            await self._chunks.send(chunk)
        except BrokenResourceError:
            await self._put
            raise


@asynccontextmanager
async def storing(storage: Storage, key: str, slots: CapacityLimiter) -> AsyncIterator[Writer]:
    """The bytes written within the block become the object at its end; if it raises, there is none."""
    send, receive = anyio.create_memory_object_stream[bytes](BUFFERED_CHUNKS)
    reader = ChunkReader(receive, asyncio.get_running_loop())
    put = asyncio.create_task(_put(storage, key, reader, slots))
    writer = Writer(send, put)
    try:
        yield writer
    except BaseException:
        reader.abandoned = True
        send.close()
        with suppress(Exception):
            await put
        raise
    send.close()
    writer.stored = await put


async def _put(storage: Storage, key: str, reader: ChunkReader, slots: CapacityLimiter) -> StoredObject:
    def put() -> StoredObject:
        return storage.put(key, cast(BinaryIO, reader))

    try:
        return await anyio.to_thread.run_sync(put, limiter=slots)
    finally:
        reader.close_source()
