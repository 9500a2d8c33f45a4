"""Huge and slow bodies: refused in time, the connection closed, nothing kept; and the next request is served."""

import asyncio
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.types import Message

from app.middleware import bodies
from app.middleware.bodies import BodyGuard, GuardedBody, TooSlow, find_limits
from core.domain.errors import TooLarge
from tests.app.conftest import LiveApi, as_tenant
from tests.app.factory import draw_png
from tests.app.test_jobs import refuse
from tests.fixtures.document import read_document
from tests.fixtures.servers import wait_for

DRIP_SECONDS = 0.05
JSON = "Content-Type: application/json\r\n"
FORM = "Content-Type: multipart/form-data; boundary=x\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
FILE_PART = PART.replace(b"files", b"file").replace(b"a.png", b"a.safetensors")
MEBIBYTE = 1 << 20


@pytest.fixture
def strict(start_api: Callable[..., LiveApi]) -> LiveApi:
    return start_api(
        body_seconds=0.5,
        body_bytes_per_second=100_000,
        max_file_bytes=100_000,
        max_upload_bytes=500_000,
        max_adapter_bytes=500_000,
    )


def length(num_bytes: int) -> str:
    return f"Content-Length: {num_bytes}\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def endless(data: bytes, first: bytes = b"") -> Iterator[bytes]:
    """Chunk by chunk, until the other side has had enough."""
    yield chunk(first or data)
    while True:
        yield chunk(data)


def drip(data: bytes, first: bytes = b"") -> Iterator[bytes]:
    """A byte at a time, each within the time that there may be none."""
    yield first
    for position in range(len(data)):
        time.sleep(DRIP_SECONDS)
        yield data[position : position + 1]


def once(data: bytes = b"") -> Iterator[bytes]:
    yield data


Case = tuple[str, str, Callable[[], Iterator[bytes]], int, str]

# Request line with {dataset}, header, body, answer. What is sent never comes to its end.
CASES: dict[str, Case] = {
    "a length over the limit": ("POST /jobs", JSON + length(2 * MEBIBYTE), once, 413, "too-large"),
    "a length beyond all": ("POST /jobs", JSON + length(10**18), once, 413, "too-large"),
    "chunks of JSON without end": ("POST /jobs", JSON + CHUNKED, lambda: endless(b" " * 65536), 413, "too-large"),
    "a body on a route without": ("POST /jobs/job_1/cancel", JSON + length(MEBIBYTE + 1), once, 413, "too-large"),
    "a GET with a body": ("GET /jobs", JSON + length(MEBIBYTE + 1), once, 413, "too-large"),
    "a DELETE with a body": ("DELETE /jobs/job_1", JSON + length(MEBIBYTE + 1), once, 413, "too-large"),
    "a body where nothing is": ("POST /nowhere", JSON + length(MEBIBYTE + 1), once, 413, "too-large"),
    "a form sent as JSON's": ("POST /jobs", FORM + length(MEBIBYTE + 1), once, 413, "too-large"),
    "a large file": ("PUT /datasets/{dataset}/files/a.png", length(100_001), once, 413, "too-large"),
    "a file without end": (
        "PUT /datasets/{dataset}/files/a.png", CHUNKED, lambda: endless(b"x" * 8192), 413, "too-large",
    ),
    "a large form": ("POST /datasets", FORM + length(500_001), once, 413, "too-large"),
    "a form's file without end": (
        "POST /datasets", FORM + CHUNKED, lambda: endless(b"x" * 8192, PART), 413, "too-large",
    ),
    "a field without end": (
        "POST /datasets", FORM + CHUNKED,
        lambda: endless(b"x" * 8192, b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n'), 413, "too-large",
    ),
    "an adapter without end": (
        "POST /adapters", FORM + CHUNKED, lambda: endless(b"x" * 8192, FILE_PART), 413, "too-large",
    ),
    "nothing after the header": ("POST /jobs", JSON + length(1000), once, 408, "too-slow"),
    "nothing after a part of it": ("POST /jobs", JSON + length(1000), lambda: once(b'{"model":'), 408, "too-slow"),
    "JSON that drips": ("POST /jobs", JSON + length(10_000), lambda: drip(b" " * 10_000), 408, "too-slow"),
    "a chunk that never ends": (
        "POST /jobs", JSON + CHUNKED, lambda: drip(b" " * 10_000, b"2710\r\n"), 408, "too-slow",
    ),
    "a file that drips": (
        "PUT /datasets/{dataset}/files/a.png", length(10_000), lambda: drip(draw_png() + bytes(9_000)), 408, "too-slow",
    ),
    "a form that stops": ("POST /datasets", FORM + length(10_000), lambda: once(PART), 408, "too-slow"),
    "a form's file that drips": (
        "POST /datasets", FORM + length(10_000), lambda: drip(b"x" * 9_000, PART), 408, "too-slow",
    ),
    "an adapter that drips": (
        "POST /adapters", FORM + length(10_000), lambda: drip(b"x" * 9_000, FILE_PART), 408, "too-slow",
    ),
    "an upload's announcement that drips": (
        "POST /datasets/{dataset}/uploads", JSON + length(10_000), lambda: drip(b" " * 10_000), 408, "too-slow",
    ),
}  # fmt: skip


def send(api: LiveApi, request: str, header: str, parts: Iterator[bytes]) -> bytes:
    """All that is answered until the service closes the connection."""
    address = urlsplit(api.url)
    head = f"{request} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.api_key}\r\n{header}\r\n"
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        connection.sendall(head.encode())
        with suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
                if has_answer(connection):
                    break
        return read_all(connection)


def has_answer(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])


def read_all(connection: socket.socket) -> bytes:
    """Fails by the socket's timeout where the connection is left open."""
    answer = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(65536):
            answer += data
    return answer


def test_there_are_twenty_cases() -> None:
    assert len(CASES) >= 20


@pytest.mark.parametrize("name", CASES)
def test_huge_and_slow_bodies(strict: LiveApi, name: str) -> None:
    request, header, body, status, slug = CASES[name]
    dataset = strict.client.post("/datasets", json={}).json()["id"]
    answer = send(strict, request.format(dataset=dataset), header, body())
    assert answer.startswith(b"HTTP/1.1 %d" % status), answer
    assert b"/problems/" + slug.encode() in answer
    assert re.search(rb"(?im)^connection: close\r$", answer)
    assert strict.list_stored() == []
    rows = strict.client.get("/datasets").json()["data"]
    assert [row["num_files"] for row in rows] == [0], "neither a file nor another dataset"
    assert strict.client.put(f"/datasets/{dataset}/files/good.png", content=draw_png()).status_code == 201


def test_without_a_key_no_body_is_waited_for(strict: LiveApi) -> None:
    address = urlsplit(strict.url)
    for path in ("/jobs", "/datasets", "/adapters"):
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{FORM}{length(100)}\r\n".encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 401")


def test_a_tenant_uploads_only_so_much_at_once(start_api: Callable[..., LiveApi]) -> None:
    """Others than uploads still pass, other tenants' too, and when one ends there is room."""
    api = start_api(uploads_per_tenant=3)
    dataset = api.client.post("/datasets", json={}).json()["id"]
    path, address = f"/datasets/{dataset}/files", urlsplit(api.url)
    head = f"HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.api_key}\r\n{length(90_000)}\r\n"
    held = [socket.create_connection((address.hostname or "", address.port or 0), timeout=60) for _ in range(3)]
    for number, connection in enumerate(held):
        connection.sendall(f"PUT {path}/{number}.txt {head}".encode())

    def put() -> httpx.Response:
        return api.client.put(f"{path}/more.txt", content=b"x")

    wait_for(lambda: api.services.upload_places.count(api.tenant_id) == 3)
    problem = refuse(put(), 429, "quota-exceeded")
    assert "3 of 3 uploads" in problem["detail"] and put().headers["retry-after"] == "5"
    assert api.client.get("/datasets").status_code == 200
    with as_tenant(api) as neighbour:
        own = neighbour.client.post("/datasets", json={}).json()["id"]
        assert neighbour.client.put(f"/datasets/{own}/files/a.txt", content=b"x").status_code == 201
    held.pop().close()
    wait_for(lambda: put().status_code == 201)
    for connection in held:
        connection.close()


def test_every_route_has_a_limit(strict: LiveApi) -> None:
    """A body of another kind than the route takes gets the small limit: nobody chooses the large one."""
    settings, kinds = strict.settings, ("application/json", "multipart/form-data; boundary=x", "text/plain", "")
    large = {
        ("/datasets", kinds[1]): 500_000,
        ("/adapters", kinds[1]): 500_000 + MEBIBYTE,
        ("/datasets/{dataset_id}/revisions", kinds[0]): 4 * MEBIBYTE,
        **{("/datasets/{dataset_id}/files/{filename}", kind): 100_000 for kind in kinds},
        **{("/adapters/{adapter_id}/cover", kind): 100_000 for kind in kinds},
    }
    for path in read_document()["paths"]:
        for kind in kinds:
            max_bytes, _ = find_limits(path, Headers({"content-type": kind}), settings)
            assert max_bytes == large.get((path, kind), MEBIBYTE), (path, kind)
    layers = [layer.cls for layer in strict.app.user_middleware]
    names = [getattr(layer, "__name__", "") for layer in layers]
    assert names.index("Gate") < names.index("BodyGuard") and BodyGuard in layers, "keys are asked for first"


async def read_whole(body: GuardedBody, pause_seconds: float) -> int:
    num_bytes = 0
    while True:
        message = await body()
        num_bytes += len(message["body"])
        if not message["more_body"]:
            return num_bytes
        await asyncio.sleep(pause_seconds)


def test_the_services_own_time_is_not_the_clients(strict: LiveApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is slow makes no client slow; nor does the time before the first read."""
    monkeypatch.setattr(bodies, "JSON_SECONDS", 0.5)

    async def receive() -> Message:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": b"x", "more_body": left > 0}

    left = 4
    settings = strict.settings.model_copy(update={"body_seconds": 0.3, "body_bytes_per_second": 1})
    assert asyncio.run(read_whole(GuardedBody(receive, 10, 0.5, settings), 0.4)) == 4


def test_a_body_that_comes_as_fast_as_it_must_may_take_long(strict: LiveApi) -> None:
    """Longer than may pass without a byte; and no longer than the whole may take."""

    async def receive() -> Message:
        await asyncio.sleep(0.1)
        return {"type": "http.request", "body": b"x" * 10_000, "more_body": True}

    settings = strict.settings.model_copy(update={"body_seconds": 1.5, "body_bytes_per_second": 100})
    begun = time.monotonic()
    with pytest.raises(TooSlow):
        asyncio.run(read_whole(GuardedBody(receive, 10**9, 3.0, settings), 0))
    assert time.monotonic() - begun > 2.9
    with pytest.raises(TooLarge):
        asyncio.run(read_whole(GuardedBody(receive, 35_000, 60.0, settings), 0))
