"""A ready dataset as a .zip, read from storage while it is sent."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from app.conditions import check_match, is_known
from app.files import CHUNK_BYTES, OCTETS
from app.methods import is_head
from app.zips import ZipEntry, measure_zip, stream_zip
from core.db import datasets
from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.downloads import DownloadedFile, Layout, list_files
from core.domain.errors import WrongState
from core.domain.mask_mark import MARK, PNG_HEADER_BYTES
from core.domain.states import DatasetStatus
from core.storage import Storage
from core.storage.disposition import attachment, make_filename

ZIP = "application/zip"
DEFAULT_NAME = "images"


@dataclass(frozen=True)
class Archive:
    """``etag``: a dataset never changes, and neither does its archive."""

    filename: str
    etag: str
    files: tuple[DownloadedFile, ...]


def prepare(session: Session, tenant_id: str, dataset_id: str, layout: Layout) -> Archive:
    """Raises NotFound, and WrongState before the dataset is ready."""
    dataset = datasets.get_dataset(session, tenant_id, dataset_id, whole=True)
    if dataset.status != DatasetStatus.READY:
        raise WrongState(f"Dataset {dataset_id} is {dataset.status}: it can be downloaded when it is ready.")
    manifest, name = DatasetManifest.model_validate(dataset.manifest), dataset.name or DEFAULT_NAME
    folder = make_filename(name, "", DEFAULT_NAME)
    etag = f'"{manifest.content_hash()}-{layout}-{dataset_id}"'
    return Archive(make_filename(name, ".zip", DEFAULT_NAME), etag, tuple(list_files(manifest, layout, folder)))


def send(request: Request, storage: Storage, archive: Archive) -> Response:
    """Raises PreconditionFailed. If the store fails on the way, the connection is cut off short of its length."""
    headers = {"ETag": archive.etag, "Cache-Control": "private, no-cache"}
    check_match(request.headers, archive.etag)
    if is_known(request.headers, archive.etag):
        return Response(status_code=304, headers=headers)
    entries = [_make_entry(storage, file) for file in archive.files]
    headers |= {
        "Content-Length": str(measure_zip(entries)),
        "Content-Disposition": attachment(archive.filename),
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if is_head(request):
        return Response(media_type=ZIP, headers=headers)
    return StreamingResponse(stream_zip(entries), media_type=ZIP, headers=headers)


def _make_entry(storage: Storage, file: DownloadedFile) -> ZipEntry:
    if isinstance(content := file.content, bytes):
        return ZipEntry(file.name, len(content), partial(_give, content))
    size = content.size + len(MARK) * content.masked
    return ZipEntry(file.name, size, partial(_read, storage, content))


def _give(content: bytes) -> Iterator[bytes]:
    yield content


def _read(storage: Storage, image: ManifestImage) -> Iterator[bytes]:
    with storage.open(image.key) as stream:
        if image.masked:
            yield stream.read(PNG_HEADER_BYTES) + MARK
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def zip_responses() -> dict[int | str, dict[str, Any]]:
    """For ``responses=``; as ``app.files.file_responses``."""
    content = {name: {"schema": {"type": "string", "format": "binary"}} for name in (ZIP, OCTETS)}
    return {
        200: {"content": content, "description": "The whole archive."},
        304: {"description": "You have the current archive: If-None-Match names its ETag."},
    }
