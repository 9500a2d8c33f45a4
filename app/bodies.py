"""Bounds on every body: bytes counted as they come, and time.

The limits hold whatever Content-Length says; a length that is too large is refused before a byte is read.
"""

import asyncio
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.services import Services
from core.domain.errors import TooLarge, UserError

MAX_JSON_BYTES = 1 << 20
IDLE_SECONDS = 30.0
JSON_SECONDS = 60.0
UPLOAD_SECONDS = 2 * 3600.0

_FILE_PATH = re.compile(r"/datasets/[^/]+/files/.+")


class RequestTimeout(UserError):
    slug, title = "request-timeout", "The body came too slowly"


class BodyGuard:
    """Raises TooLarge or RequestTimeout from where the body is read."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            max_bytes, max_seconds = find_limits(scope, headers)
            if int(headers.get("content-length") or 0) > max_bytes:
                raise too_large(max_bytes)
            receive = GuardedBody(receive, max_bytes, max_seconds)
        await self.app(scope, receive, send)


def find_limits(scope: Scope, headers: Headers) -> tuple[int, float]:
    """Bytes and seconds."""
    services: Services = scope["app"].state.services
    if scope["path"] == "/datasets" and headers.get("content-type", "").startswith("multipart/"):
        return services.settings.max_upload_bytes, UPLOAD_SECONDS
    if _FILE_PATH.fullmatch(scope["path"]):
        return services.settings.max_file_bytes, UPLOAD_SECONDS
    return MAX_JSON_BYTES, JSON_SECONDS


def too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than the {max_bytes:,} bytes that this call takes.")


class GuardedBody:
    """A ``receive`` that counts bytes and seconds until the body has ended."""

    def __init__(self, receive: Receive, max_bytes: int, max_seconds: float) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._deadline = asyncio.get_running_loop().time() + max_seconds
        self._num_bytes = 0
        self._ended = False

    async def __call__(self) -> Message:
        if self._ended:
            return await self._receive()  # waits for the client to hang up, as long as the answer takes
        message = await self._receive_in_time()
        self._num_bytes += len(message.get("body", b""))
        if self._num_bytes > self._max_bytes:
            raise too_large(self._max_bytes)
        self._ended = not message.get("more_body", False)
        return message

    async def _receive_in_time(self) -> Message:
        try:
            async with asyncio.timeout_at(min(self._deadline, asyncio.get_running_loop().time() + IDLE_SECONDS)):
                return await self._receive()
        except TimeoutError:
            raise RequestTimeout("The body came too slowly, or not whole. Send it again over a better line.") from None
