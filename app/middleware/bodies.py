"""Limits on every body: its size, counted as it arrives, and its time.

The limits hold whatever Content-Length says; a length that is too large is refused before a byte is read. The gate
runs first, so a body without a valid key is never read.
"""

import asyncio
import re
from contextlib import nullcontext

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth.service import Caller
from app.media import JSON, media_type_of, refuse_coding
from app.services import Services
from core.domain.errors import InvalidRequest, TooLarge, UserError
from core.settings import Settings

MAX_JSON_BYTES = 1 << 20
MAX_EDITS_BYTES = 4 << 20
"""New captions for all images of a large dataset."""
JSON_SECONDS = 60.0
UPLOAD_SECONDS = 2 * 3600.0

_FILE_PATH = re.compile(r"/datasets/[^/]+/files/.+")
_COVER_PATH = re.compile(r"/adapters/[^/]+/cover")
_REVISIONS_PATH = re.compile(r"/datasets/[^/]+/revisions")


class TooSlow(UserError):
    slug, title = "too-slow", "Upload too slow"


class BodyGuard:
    """Raises UnsupportedCoding; TooLarge or TooSlow where the body is read; QuotaExceeded for too many concurrent
    uploads."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        services: Services = scope["app"].state.services
        headers = Headers(scope=scope)
        max_bytes, max_seconds = find_limits(scope["path"], headers, services.settings)
        refuse_coding(headers)
        if read_length(headers) > max_bytes:
            raise too_large(max_bytes)
        caller: Caller | None = scope.get("state", {}).get("caller")
        is_upload = max_seconds == UPLOAD_SECONDS and caller is not None
        body = GuardedBody(receive, max_bytes, max_seconds, services.settings)
        with services.upload_places.take(caller.tenant_id) if is_upload and caller else nullcontext():
            await self.app(scope, body, send)


def find_limits(path: str, headers: Headers, settings: Settings) -> tuple[int, float]:
    """Bytes and seconds."""
    if media_type_of(headers).startswith("multipart/"):
        if path == "/datasets":
            return settings.max_upload_bytes, UPLOAD_SECONDS
        if path == "/adapters":
            return settings.max_adapter_bytes + MAX_JSON_BYTES, UPLOAD_SECONDS
    if _FILE_PATH.fullmatch(path) or _COVER_PATH.fullmatch(path):
        return settings.max_file_bytes, UPLOAD_SECONDS
    if _REVISIONS_PATH.fullmatch(path) and media_type_of(headers) == JSON:
        return MAX_EDITS_BYTES, JSON_SECONDS
    return MAX_JSON_BYTES, JSON_SECONDS


def read_length(headers: Headers) -> int:
    """Raises InvalidRequest for an invalid length; the server itself lets some pass."""
    length = headers.get("content-length") or "0"
    if not (length.isascii() and length.isdigit()):
        raise InvalidRequest("The header Content-Length is not a number.")
    return int(length[:20])


def too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than the limit of {max_bytes:,} bytes.")


class GuardedBody:
    """A ``receive`` that counts bytes, and the seconds spent waiting for them, until the body has ended.

    A client is too slow if it sends nothing for ``body_seconds``, or is behind ``body_bytes_per_second`` by more.
    """

    def __init__(self, receive: Receive, max_bytes: int, max_seconds: float, settings: Settings) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._max_waited = max_seconds
        self._idle_seconds, self._bytes_per_second = settings.body_seconds, settings.body_bytes_per_second
        self._num_bytes, self._waited = 0, 0.0
        self._ended = False

    async def __call__(self) -> Message:
        if self._ended:
            return await self._receive()  # waits for the client to hang up, for as long as the response takes
        message = await self._receive_in_time()
        self._num_bytes += len(message.get("body", b""))
        if self._num_bytes > self._max_bytes:
            raise too_large(self._max_bytes)
        self._ended = not message.get("more_body", False)
        return message

    async def _receive_in_time(self) -> Message:
        """The service's own time for a chunk, such as that of a slow store, does not count against the client."""
        clock = asyncio.get_running_loop().time
        begun, patience = clock(), self._idle_seconds + self._num_bytes / self._bytes_per_second
        allowed = min(self._idle_seconds, min(patience, self._max_waited) - self._waited)
        try:
            async with asyncio.timeout(max(0.0, allowed)):
                return await self._receive()
        except TimeoutError:
            raise TooSlow("The body arrived too slowly or incompletely. Use a better connection.") from None
        finally:
            self._waited += clock() - begun
