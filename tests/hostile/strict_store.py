"""A store that takes signed addresses as exactly as AWS does, in front of moto, which takes any.

Written from AWS' description of Signature Version 4 in query parameters, and not with the library that signs.
"""

import base64
import hashlib
import hmac
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

KEY_ID, SECRET = "atelier-test", "atelier-test-secret"
MAX_EXPIRES_SECONDS = 7 * 24 * 3600
PARTS = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders")


class StrictStore(ThreadingHTTPServer):
    """``behind`` is boto3's client of the other; ``now`` is the clock."""

    daemon_threads = True

    def __init__(self, behind: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve_strict_store(behind: Any) -> Iterator[StrictStore]:
    server = StrictStore(behind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: StrictStore

    def do_GET(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value.strip() for name, value in self.headers.items()}
        if (fault := find_fault(self.command, self.path, headers, self.server.now())) is not None:
            self._answer(403, fault)
        elif headers.get("x-amz-checksum-sha256", digest_of(content)) != digest_of(content):
            self._answer(400, "BadDigest")
        else:
            self._answer(200, self._pass_on(content))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def _pass_on(self, content: bytes) -> bytes:
        bucket, _, key = unquote(urlsplit(self.path).path).removeprefix("/").partition("/")
        if self.command == "PUT":
            self.server.behind.put_object(Bucket=bucket, Key=key, Body=content)
            return b""
        assert self.command == "GET", "nothing else is ever signed"
        return bytes(self.server.behind.get_object(Bucket=bucket, Key=key)["Body"].read())

    def _answer(self, status: int, body: str | bytes) -> None:
        content = body if isinstance(body, bytes) else f"<Error><Code>{body}</Code></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def digest_of(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def find_fault(method: str, target: str, headers: Mapping[str, str], now: datetime) -> str | None:
    """AWS' word for what is wrong with a request, or None."""
    path, _, query = target.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    query = {name.removeprefix("X-Amz-"): value for name, value in pairs if name.startswith("X-Amz-")}
    if set(query) != {*PARTS, "Signature"} or query["Algorithm"] != "AWS4-HMAC-SHA256":
        return "AuthorizationQueryParametersError"
    signed = query["SignedHeaders"].split(";")
    if "host" not in signed or any(name.startswith("x-amz-") and name not in signed for name in headers):
        return "AccessDenied: there were headers present in the request which were not signed"
    if not all(name in headers for name in signed):
        return "AccessDenied: a signed header is missing"
    rest = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in pairs if name != "X-Amz-Signature"
    )
    canonical = "\n".join(
        [method, path, "&".join(f"{name}={value}" for name, value in rest),
         *(f"{name}:{headers[name]}" for name in signed), "", ";".join(signed), "UNSIGNED-PAYLOAD"]
    )  # fmt: skip
    if not hmac.compare_digest(_sign(canonical, query), query["Signature"]):
        return "SignatureDoesNotMatch"
    return None if _is_in_time(query, now) else "AccessDenied: Request has expired"


def _sign(canonical: str, query: Mapping[str, str]) -> str:
    key_id, *scope = query["Credential"].split("/")
    key = f"AWS4{SECRET}".encode() if key_id == KEY_ID else b"of nobody"
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    lines = ("AWS4-HMAC-SHA256", query["Date"], "/".join(scope), hashlib.sha256(canonical.encode()).hexdigest())
    return hmac.digest(key, "\n".join(lines).encode(), "sha256").hex()


def _is_in_time(query: Mapping[str, str], now: datetime) -> bool:
    begun = datetime.strptime(query["Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    seconds = int(query["Expires"])
    return 0 < seconds <= MAX_EXPIRES_SECONDS and begun - timedelta(minutes=15) <= now <= begun + timedelta(
        seconds=seconds
    )
