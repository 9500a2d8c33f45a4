"""The three stores, each fresh for every test; S3 is moto's HTTP server on a free port."""

import io
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from core.storage import Storage, open_storage
from tests.core.storage.scripted import ScriptedStore

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def aws_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "atelier-test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "atelier-test-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("AWS_PROFILE", raising=False)
        yield


@pytest.fixture(scope="session")
def s3_endpoint(aws_environment: None) -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str):
    return boto3.session.Session().client("s3", endpoint_url=s3_endpoint)


@pytest.fixture
def bucket(s3_client) -> str:
    name = f"atelier-{uuid.uuid4().hex}"
    s3_client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def location(kind: str, request: pytest.FixtureRequest) -> tuple[str, str | None]:
    """Where a store of the asked kind is: its location and, for S3, the endpoint."""
    if kind == "s3":
        return f"s3://{request.getfixturevalue('bucket')}/some/prefix", request.getfixturevalue("s3_endpoint")
    if kind == "memory":
        return "memory://", None
    return str(request.getfixturevalue("tmp_path") / "store"), None


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
