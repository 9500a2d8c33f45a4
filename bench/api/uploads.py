"""How much the API's memory grows while many large files come in at once."""

import asyncio
import os
import tarfile
import threading
import time
from dataclasses import dataclass

from bench.api.load import HOST, read_answer
from bench.api.stack import Stack
from bench.memory.job import read_status

BOUNDARY = "bench-boundary"
CHUNK = 1024**2
GOAL_BYTES = 150 * 1024**2


@dataclass(frozen=True)
class Uploads:
    """Bytes and seconds; ``grown``: by how much the process's resident memory was higher at most."""

    count: int
    size: int
    grown: int
    seconds: float

    def describe(self) -> list[str]:
        reached = "yes" if self.grown <= GOAL_BYTES else "**no**"
        rate = self.count * self.size / self.seconds / 1024**2
        return [
            "| uploads at once | goal | the API's memory grew by | together | reached |",
            "| --- | --- | --- | --- | --- |",
            f"| {self.count} of {self.size / 1024**2:,.0f} MiB | at most {GOAL_BYTES // 1024**2} MiB | "
            f"{self.grown / 1024**2:,.0f} MiB | {self.seconds:.1f} s, {rate:,.0f} MiB/s | {reached} |",
        ]


class MemoryWatch:
    """Looks at a process's resident memory every 20 milliseconds."""

    def __init__(self, pid: int) -> None:
        self._pid, self._ended = pid, threading.Event()
        self.before = self.peak = read_status("VmRSS", pid)
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.peak = max(self.peak, read_status("VmRSS", self._pid))

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def measure_uploads(stack: Stack, count: int, size: int) -> Uploads:
    """``size`` in bytes: of each archive. They are stored, and nobody validates them."""
    asyncio.run(_upload(stack, 4 * CHUNK))  # what the first upload loads is not counted
    with MemoryWatch(stack.pid) as memory:
        started = time.perf_counter()
        asyncio.run(_upload_all(stack, count, size))
        seconds = time.perf_counter() - started
    return Uploads(count, size, memory.peak - memory.before, seconds)


async def _upload_all(stack: Stack, count: int, size: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(_upload(stack, size))


async def _upload(stack: Stack, size: int) -> None:
    """A tar archive with one file of random bytes, in a form."""
    member = tarfile.TarInfo("a.png")
    member.size = size
    header = member.tobuf()
    start = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="set.tar"\r\n'
        "Content-Type: application/x-tar\r\n\r\n"
    ).encode() + header
    end = bytes(-size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE) + f"\r\n--{BOUNDARY}--\r\n".encode()
    reader, writer = await asyncio.open_connection(HOST, stack.api.port)
    head = [
        "POST /datasets HTTP/1.1", f"Host: {HOST}", f"Authorization: Bearer {stack.api.api_key}",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}", f"Content-Length: {len(start) + size + len(end)}",
    ]  # fmt: skip
    writer.write("\r\n".join([*head, "", ""]).encode() + start)
    block = os.urandom(CHUNK)
    for sent in range(0, size, CHUNK):
        writer.write(block[: min(CHUNK, size - sent)])
        await writer.drain()
    writer.write(end)
    status, body = await read_answer(reader)
    writer.close()
    assert status == 202, f"{status}: {body[:300]!r}"
