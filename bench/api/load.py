"""A load generator for one route: HTTP/1.1 over kept connections, so lean that it leaves the cores to the server."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.report import percentile

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Load:
    """``latencies`` of all answers in seconds; ``seconds`` that they took together."""

    latencies: list[float]
    seconds: float

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile_ms(self, share: float) -> float:
        return 1000 * percentile(self.latencies, share)


def write_request(method: str, path: str, api_key: str | None = None, body: object = None) -> bytes:
    """``body`` is sent as JSON."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}"]
    lines += [] if api_key is None else [f"Authorization: Bearer {api_key}"]
    lines += [] if body is None else ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body, which must state its length."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    lengths = [field.partition(b":")[2] for field in fields if field.lower().startswith(b"content-length:")]
    return int(first.split()[1]), await reader.readexactly(int(lengths[0]))


async def run_load(port: int, write: Callable[[], bytes], status: int, connections: int, seconds: float) -> Load:
    """Each connection sends its next request when it has the last's answer. Raises AssertionError for another status:
    a server that refuses is quick."""
    latencies: list[float] = []
    started = time.perf_counter()

    async def keep_asking() -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            while time.perf_counter() - started < seconds:
                asked = time.perf_counter()
                writer.write(write())
                found, body = await read_answer(reader)
                latencies.append(time.perf_counter() - asked)
                assert found == status, f"{found}: {body[:300]!r}"
        finally:
            writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(keep_asking())
    return Load(latencies, time.perf_counter() - started)
