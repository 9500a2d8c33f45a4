"""The proxy's faults, as an HTTP client meets them."""

import http.server
from collections.abc import Iterator
from typing import ClassVar

import httpx
import pytest

from tests.chaos.proxy import RESET_AFTER_BYTES, SLOW_SECONDS, FaultProxy
from tests.fixtures.serving import serving


class Store(http.server.BaseHTTPRequestHandler):
    """Remembers whole bodies alone, as an object store does."""

    protocol_version = "HTTP/1.1"
    received: ClassVar[list[bytes]] = []

    def do_PUT(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) == length:
            self.received.append(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class QuietServer(http.server.ThreadingHTTPServer):
    """Connections that break are what is tested."""

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    Store.received.clear()
    server = QuietServer(("127.0.0.1", 0), Store)
    with serving(server):
        opened = FaultProxy(server.server_address[1])
        yield opened
        opened.close()


BODY = bytes(range(256)) * 4096


def put(client: httpx.Client, proxy: FaultProxy) -> int:
    return client.put(f"{proxy.url}/key", content=BODY).status_code


def test_everything_passes_without_a_fault(proxy: FaultProxy) -> None:
    with httpx.Client(trust_env=False) as client:
        assert [put(client, proxy), put(client, proxy)] == [200, 200]
    assert Store.received == [BODY, BODY]


def test_each_fault_and_the_way_back(proxy: FaultProxy) -> None:
    """A connection that was kept open meets the fault as well."""
    with httpx.Client(trust_env=False) as client:
        assert put(client, proxy) == 200
        proxy.set("refused")
        with pytest.raises(httpx.ConnectError):
            put(client, proxy)
        proxy.set("unavailable")
        assert put(client, proxy) == 503
        proxy.set(None)
        assert put(client, proxy) == 200
    assert len(Store.received) == 2


def test_a_reset_in_the_middle_of_an_upload(proxy: FaultProxy) -> None:
    assert len(BODY) > RESET_AFTER_BYTES
    proxy.set("reset")
    with httpx.Client(trust_env=False) as client, pytest.raises(httpx.TransportError):
        put(client, proxy)
    assert Store.received == []


def test_a_slow_store_answers_in_the_end(proxy: FaultProxy) -> None:
    proxy.set("slow")
    with httpx.Client(trust_env=False, timeout=60) as client:
        answer = client.put(f"{proxy.url}/key", content=b"small")
    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() >= SLOW_SECONDS
