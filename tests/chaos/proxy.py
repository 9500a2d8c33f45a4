"""A TCP proxy before the object store, whose faults are the network's: refused, reset, unavailable, slow."""

import asyncio
import contextlib
import socket
import struct
import threading
from typing import Literal

StorageFault = Literal["refused", "reset", "unavailable", "slow"]
STORAGE_FAULTS: tuple[StorageFault, ...] = ("refused", "reset", "unavailable", "slow")

CHUNK_BYTES = 64 * 1024
RESET_AFTER_BYTES = 24 * 1024
"""Of a request: beyond its head, and in the middle of what most of the service's files weigh."""
SLOW_SECONDS = 0.7
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER with no time: the peer sees a reset
_UNAVAILABLE = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class FaultProxy:
    """Listens on a free port of 127.0.0.1, in a thread of its own. ``fault`` None: passes everything on."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.StreamWriter] = set()
        self.fault: StorageFault | None = None
        self.port = 0
        self._thread = threading.Thread(target=self._loop.run_forever, name="storage-proxy", daemon=True)
        self._thread.start()
        self._do(self._listen())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def set(self, fault: StorageFault | None) -> None:
        """Breaks all connections that are open; those that follow meet the fault."""
        self._do(self._change(fault))

    def close(self) -> None:
        self._do(self._stop_listening())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _do(self, work: "asyncio.Future[None] | object") -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for line in list(self._lines):
            _abort(line)

    async def _change(self, fault: StorageFault | None) -> None:
        self.fault = fault
        await self._stop_listening()
        if fault != "refused":
            await self._listen()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._lines.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if self.fault == "unavailable":
                    await reader.read(CHUNK_BYTES)
                    writer.write(_UNAVAILABLE)
                    await writer.drain()
                else:
                    await self._connect(reader, writer)
        finally:
            self._lines.discard(writer)
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_store, to_store = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._lines.add(to_store)
        try:
            ways = (
                asyncio.ensure_future(self._pass_on(reader, to_store, writer)),
                asyncio.ensure_future(self._pass_on(from_store, writer, None)),
            )
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            self._lines.discard(to_store)
            to_store.close()

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, client: asyncio.StreamWriter | None
    ) -> None:
        """``client`` is who sends, on the way to the store."""
        passed = 0
        while data := await source.read(CHUNK_BYTES):
            if self.fault == "slow":
                await asyncio.sleep(SLOW_SECONDS)
            passed += len(data)
            if self.fault == "reset" and client is not None and passed > RESET_AFTER_BYTES:
                _abort(client)
                _abort(sink)
                return
            sink.write(data)
            await sink.drain()


def _abort(line: asyncio.StreamWriter) -> None:
    raw = line.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    transport = line.transport
    transport.abort()
