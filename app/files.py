"""Stored files as responses: by a signed address if clients reach the store, else streamed through.

Always through for the dashboard: its pages' policy allows images from nowhere else.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from app.conditions import Span, check_match, find_span, is_known
from app.media import accepts
from app.methods import is_head
from core.storage import ObjectNotFound, Storage
from core.storage.disposition import attachment

CHUNK_BYTES = 1 << 20
ADDRESS_SECONDS = 300
OCTETS = "application/octet-stream"
SAFETENSORS = OCTETS
PNG = "image/png"
WEBP = "image/webp"


@dataclass(frozen=True)
class StoredFile:
    """A file on record. ``size`` in bytes; ``filename`` is the name for saving it (core.storage.disposition)."""

    key: str
    sha256: str
    size: int
    filename: str
    content_type: str

    @property
    def etag(self) -> str:
        return f'"{self.sha256}"'


async def send_file(request: Request, storage: Storage, file: StoredFile) -> Response:
    """The whole file or the requested range. HEAD is answered here: an address is signed for GET alone.

    Raises ObjectNotFound if the store has lost it, PreconditionFailed and RangeNotSatisfiable.
    """
    headers = {"ETag": file.etag, "Cache-Control": "private, no-cache", "Vary": "Accept"}
    if accepts(request.headers, OCTETS) and not accepts(request.headers, file.content_type):
        file = replace(file, content_type=OCTETS)
    check_match(request.headers, file.etag)
    if is_known(request.headers, file.etag):
        return Response(status_code=304, headers=headers)
    # A redirect keeps the request's headers, and a store compares conditions with ETags of its own.
    is_conditional = not {"if-match", "if-range"}.isdisjoint(request.headers)
    is_page = "browser_session" in request.scope.get("state", {})
    redirects = not is_head(request) and not is_conditional and not is_page
    if redirects and (address := await asyncio.to_thread(_find_address, storage, file)) is not None:
        return RedirectResponse(address, status_code=307, headers=headers)
    if await asyncio.to_thread(storage.stat, file.key) is None:
        raise ObjectNotFound(file.key)
    return _send_through(request, storage, file, headers)


def _find_address(storage: Storage, file: StoredFile) -> str | None:
    return storage.download_url(
        file.key, filename=file.filename, content_type=file.content_type, expires_seconds=ADDRESS_SECONDS
    )


def _send_through(request: Request, storage: Storage, file: StoredFile, headers: dict[str, str]) -> Response:
    # Range is defined for GET alone (RFC 9110, 14.2).
    span = None if is_head(request) else find_span(request.headers, file.etag, file.size)
    sent = span or Span(0, file.size)
    headers |= {
        "Accept-Ranges": "bytes",
        "Content-Length": str(len(sent)),
        "Content-Disposition": attachment(file.filename),
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if span is not None:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{file.size}"
    if is_head(request):
        return Response(media_type=file.content_type, headers=headers)
    content, status = _read(storage, file.key, sent), 200 if span is None else 206
    return StreamingResponse(content, status, media_type=file.content_type, headers=headers)


def _read(storage: Storage, key: str, span: Span) -> Iterator[bytes]:
    left = len(span)
    with storage.open(key, start=span.start) as stream:
        while left and (chunk := stream.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk


def file_responses(media_type: str) -> dict[int | str, dict[str, Any]]:
    """For ``responses=`` of a route that sends a file: by its media type, or as bytes, for clients that
    openapi-python-client generates, which do not know image types."""
    content = {name: {"schema": {"type": "string", "format": "binary"}} for name in (media_type, OCTETS)}
    redirect = {"description": "The file is at the address in Location, for a few minutes."}
    return {
        200: {"content": content, "description": "The whole file."},
        206: {"content": content, "description": "The part of it that the header Range requests."},
        304: {"description": "You have the current file: If-None-Match names its ETag."},
        307: redirect,
    }
