"""Files from storage as answers: by a signed address where clients reach the store, else streamed through."""

import asyncio
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from core.storage import ObjectNotFound, Storage

CHUNK_BYTES = 1 << 20
ADDRESS_SECONDS = 300
SAFETENSORS = "application/octet-stream"
PNG = "image/png"


@dataclass(frozen=True)
class StoredFile:
    """A file on record. ``size`` in bytes; ``filename`` is what a browser saves it as."""

    key: str
    sha256: str
    size: int
    filename: str
    content_type: str


async def send_file(request: Request, storage: Storage, file: StoredFile) -> Response:
    """Raises ObjectNotFound when the store has lost it."""
    headers = {"ETag": f'"{file.sha256}"', "Cache-Control": "private, no-cache"}
    if file.sha256 in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    address = await asyncio.to_thread(
        storage.download_url,
        file.key,
        filename=file.filename,
        content_type=file.content_type,
        expires_seconds=ADDRESS_SECONDS,
    )
    if address is not None:
        return RedirectResponse(address, status_code=307, headers=headers)
    if await asyncio.to_thread(storage.stat, file.key) is None:
        raise ObjectNotFound(file.key)
    return StreamingResponse(
        _read(storage, file.key), media_type=file.content_type, headers={**headers, **_headers_of(file)}
    )


def _headers_of(file: StoredFile) -> dict[str, str]:
    return {
        "Content-Length": str(file.size),
        "Content-Disposition": f'attachment; filename="{file.filename}"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }


def _read(storage: Storage, key: str) -> Iterator[bytes]:
    with storage.open(key) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def safe_filename(name: str, suffix: str) -> str:
    """A user's name as one that every file system and header takes: ASCII letters, digits, dots and dashes."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.")[:100]
    return f"{stem or 'adapter'}{suffix}"


def file_responses(media_type: str) -> dict[int | str, dict[str, Any]]:
    """For ``responses=`` of a route that sends a file."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    redirect = {"description": "The file is at the address in Location, for a few minutes."}
    return {200: {"content": content}, 304: {"description": "It is the file that you have."}, 307: redirect}
