"""Stores of every kind, and sources, processes and servers that misbehave."""

import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.storage import Storage, open_storage
from tests.core.storage.scripted import ScriptedStore

ROOT = Path(__file__).parents[3]


@pytest.fixture
def storage(location: tuple[str, str | None]) -> Storage:
    return open_storage(location[0], s3_endpoint_url=location[1])


class BreakingSource(io.RawIOBase):
    """Gives ``good_bytes`` zeros, then raises ``error``."""

    def __init__(self, good_bytes: int, error: BaseException) -> None:
        self._left, self._error = good_bytes, error

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._left:
            raise self._error
        given = min(size, self._left, 1 << 16)
        self._left -= given
        return bytes(given)


@pytest.fixture
def breaking_source() -> type[BreakingSource]:
    return BreakingSource


@pytest.fixture
def start_python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Run a script in a process of its own, which is gone when the test is over."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def scripted(aws_environment: None) -> Iterator[ScriptedStore]:
    server = ScriptedStore()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
