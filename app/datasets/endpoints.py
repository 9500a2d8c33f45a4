"""/datasets: create, fill, close, read, delete."""

import json
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from app.datasets import closing, exporting, revising, service
from app.datasets.exporting import zip_responses
from app.datasets.schemas import (
    DatasetOut,
    DatasetRequest,
    FileOut,
    ImageOut,
    RevisionRequest,
    UploadOut,
    UploadsRequest,
)
from app.datasets.service import DatasetWithTotals
from app.deps import DEFAULT_PAGE, PLAIN, CallerDep, DatabaseDep, Id, Limit, ServicesDep, continue_after, needs_key
from app.files import PNG, WEBP, StoredFile, file_responses, send_file
from app.idempotency import OnceDep
from app.media import JSON, MULTIPART, media_type_of
from app.openapi import OF_FILES, problems
from app.pages import Page
from core.domain.downloads import Layout
from core.domain.errors import InvalidRequest, UnsupportedMedia
from core.domain.states import DatasetStatus
from core.storage.disposition import make_filename

MAX_IMAGES_PAGE = 1000
FILE_PROBLEMS = ("archive-rejected", "image-rejected", "dataset-rejected")

router = APIRouter(prefix="/datasets", tags=["datasets"], dependencies=[needs_key])

FORM: dict[str, Any] = {
    "type": "object",
    "required": ["files"],
    "properties": {
        "files": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "format": "binary"},
            "description": "A .zip or .tar archive, and/or images (PNG, JPEG, WebP, HEIC, AVIF, BMP, TIFF, GIF), "
            "captions (.txt, .caption), metadata.jsonl or .csv.",
        },
        "name": {"type": "string", "maxLength": 200},
    },
}
CREATE_BODY: dict[str, Any] = {
    # openapi-python-client 0.29 writes a module that cannot be imported for an operation with two types of body and
    # without any optional parameter
    "parameters": [
        {
            "name": "Content-Length",
            "in": "header",
            "required": False,
            "description": "Bytes of the body. An upload that is too large is refused before it is read.",
            "schema": {"type": "integer", "minimum": 0},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": FORM,
                "example": {"files": ["cat-1.png", "cat-1.txt"], "name": "my cat"},
                "encoding": {"files": {"contentType": "application/octet-stream"}},
            },
            "application/json": {
                "schema": DatasetRequest.model_json_schema(),
                "examples": {
                    "open": {"value": {"name": "my cat"}},
                    "fetched": {"value": {"name": "my cat", "urls": ["https://example.com/cat.zip"]}},
                },
            },
        },
    },
}
FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    "",
    status_code=202,
    response_model=DatasetOut,
    openapi_extra=CREATE_BODY,
    responses={
        201: {"model": DatasetOut, "description": "From JSON without `urls`: an open dataset to fill."},
        **problems(*FILE_PROBLEMS, "url-forbidden"),
    },
)
async def create_dataset(request: Request, caller: CallerDep, services: ServicesDep, response: Response) -> DatasetOut:
    """From files, or from JSON with `urls` that a worker fetches: validated in the background. Or from JSON without
    them: an open dataset to fill file by file."""
    media_type = media_type_of(request.headers)
    if media_type == MULTIPART:
        content_type = request.headers["content-type"]
        overview = await service.upload(services, caller.tenant_id, request.stream(), content_type)
        services.doorbell.ring("validate")
    elif media_type == JSON:
        body = parse_request(await request.body())
        if body.urls is None:
            overview = await services.database.run(service.open_dataset, caller.tenant_id, body.name)
            response.status_code = 201
        else:
            overview = await services.database.run(
                service.insert_sources, services.settings, caller.tenant_id, body.name, body.urls
            )
            services.doorbell.ring("validate")
    else:
        raise UnsupportedMedia("Send files as multipart/form-data, in the field `files`; or JSON, for an open dataset.")
    response.headers["Location"] = f"/datasets/{overview.dataset.id}"
    return show(overview)


def parse_request(body: bytes) -> DatasetRequest:
    """As the framework does for endpoints that accept JSON only."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest('The body is not valid JSON. Send an object such as {"name": "my cat"}.') from None
    try:
        return DatasetRequest.model_validate(data)
    except ValidationError as error:
        findings = [{**finding, "loc": ("body", *finding["loc"])} for finding in error.errors(include_url=False)]
        raise RequestValidationError(findings, body=data) from None


def show(overview: DatasetWithTotals) -> DatasetOut:
    return DatasetOut.of(overview.dataset, overview.totals)


@router.get("", responses=problems())
async def list_datasets(
    caller: CallerDep,
    database: DatabaseDep,
    status: DatasetStatus | None = None,
    parent: Annotated[
        str | None, Query(max_length=100, pattern=PLAIN, description="Only the revisions of this dataset.")
    ] = None,
    after: Annotated[str | None, continue_after("ds")] = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[DatasetOut]:
    """Newest first."""
    rows, has_more = await database.run(
        service.list_datasets, caller.tenant_id, status=status, parent=parent, after=after, limit=limit
    )
    return Page[DatasetOut].of([show(row) for row in rows], lambda dataset: dataset.id, has_more=has_more)


@router.get("/{dataset_id}", responses=problems("not-found"))
async def get_dataset(dataset_id: Id, caller: CallerDep, database: DatabaseDep) -> DatasetOut:
    """One dataset, with its status and the report on its files."""
    return show(await database.run(service.read_dataset, caller.tenant_id, dataset_id))


@router.delete("/{dataset_id}", status_code=204, responses=problems("not-found", "wrong-state"))
async def delete_dataset(dataset_id: Id, caller: CallerDep, services: ServicesDep) -> None:
    """Deletes a dataset that no job uses, and its files."""
    await service.delete(services, caller.tenant_id, dataset_id)


@router.put(
    "/{dataset_id}/files/{filename:path}",
    status_code=201,
    openapi_extra=FILE_BODY,
    responses=problems("not-found", "wrong-state", *FILE_PROBLEMS),
)
async def put_dataset_file(
    dataset_id: Id,
    filename: Annotated[str, Path(max_length=500)],
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
) -> FileOut:
    """Adds one image or caption to an open dataset; it replaces a file of the same name."""
    file = await service.put_file(services, caller.tenant_id, dataset_id, filename, request.stream())
    return FileOut.of(file)


@router.post(
    "/{dataset_id}/uploads",
    status_code=201,
    responses=problems("not-found", "wrong-state"),
)
async def create_dataset_uploads(
    dataset_id: Id, body: UploadsRequest, caller: CallerDep, services: ServicesDep
) -> Page[UploadOut]:
    """Addresses for uploading files straight to storage, if storage is S3. They expire within 15 minutes."""
    uploads = await closing.announce(services, caller.tenant_id, dataset_id, body.files)
    return Page[UploadOut].of(uploads, lambda upload: upload.filename)


@router.post(
    "/{dataset_id}/finalize",
    status_code=202,
    responses=problems("not-found", "wrong-state", "dataset-rejected"),
)
async def finalize_dataset(dataset_id: Id, caller: CallerDep, services: ServicesDep) -> DatasetOut:
    """Finalizes an open dataset, which is then validated in the background."""
    overview = await closing.finalize(services, caller.tenant_id, dataset_id)
    services.doorbell.ring("validate")
    return show(overview)


@router.post(
    "/{dataset_id}/revisions",
    status_code=201,
    response_model=DatasetOut,
    responses={
        202: {"model": DatasetOut, "description": "With `crop`: images are cropped in the background."},
        **problems("not-found", "wrong-state", "dataset-rejected", "idempotency-mismatch"),
    },
)
async def revise_dataset(
    dataset_id: Id,
    body: RevisionRequest,
    caller: CallerDep,
    services: ServicesDep,
    once: OnceDep,
    response: Response,
) -> DatasetOut:
    """Makes a new dataset of a ready one, with edits. It shares the stored images, and names its `parent`."""
    overview = await revising.revise(services, once, caller.tenant_id, dataset_id, body)
    if overview.dataset.status == DatasetStatus.VALIDATING:
        services.doorbell.ring("validate")
        response.status_code = 202
    response.headers["Location"] = f"/datasets/{overview.dataset.id}"
    return show(overview)


@router.get("/{dataset_id}/images", responses=problems("not-found", "wrong-state"))
async def list_dataset_images(
    dataset_id: Id,
    caller: CallerDep,
    database: DatabaseDep,
    after: Annotated[str | None, Query(max_length=500, pattern=PLAIN, description="Continue after this name.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_IMAGES_PAGE)] = 100,
    model: Annotated[
        str | None, Query(max_length=100, pattern=PLAIN, description="A base: each image then has its `bucket` there.")
    ] = None,
) -> Page[ImageOut]:
    """The usable images of a ready dataset, with their captions."""
    images, base = await database.run(service.read_framed_images, caller.tenant_id, dataset_id, model)
    chosen, has_more = service.page_images(images, after, limit)
    shown = [ImageOut.of(dataset_id, image, base) for image in chosen]
    return Page[ImageOut].of(shown, lambda image: image.name, has_more=has_more)


@router.get(
    "/{dataset_id}/download",
    response_class=Response,
    responses={**zip_responses(), **problems("not-found", "wrong-state", "precondition-failed")},
)
async def download_dataset(
    dataset_id: Id,
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    layout: Annotated[Layout, Query(description="`kohya` for sd-scripts, `imagefolder` for Hugging Face.")] = "kohya",
) -> Response:
    """The images and captions of a ready dataset as a .zip, which can be uploaded again."""
    archive = await services.database.run(exporting.prepare, caller.tenant_id, dataset_id, layout)
    return exporting.send(request, services.storage, archive)


@router.get(
    "/{dataset_id}/images/{sha256}.png",
    response_class=Response,
    responses={**file_responses(PNG), **problems("not-found", "wrong-state", *OF_FILES)},
)
async def download_dataset_image(
    dataset_id: Id,
    sha256: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")],
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
) -> Response:
    """One image as PNG: upright, and without metadata."""
    image = await services.database.run(service.find_image, caller.tenant_id, dataset_id, sha256)
    filename = make_filename(PurePosixPath(image.name).stem, ".png")
    return await send_file(request, services.storage, StoredFile(image.key, image.sha256, image.size, filename, PNG))


@router.get(
    "/{dataset_id}/images/{sha256}.webp",
    response_class=Response,
    responses={**file_responses(WEBP), **problems("not-found", "wrong-state", *OF_FILES)},
)
async def download_dataset_thumbnail(
    dataset_id: Id,
    sha256: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="The image's hash.")],
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
) -> Response:
    """The thumbnail of a larger image as WebP, of at most 256 pixels a side. `thumbnail_url` of the image leads here if
    there is one."""
    image = await services.database.run(service.find_image, caller.tenant_id, dataset_id, sha256)
    file, filename = service.get_thumbnail(image), make_filename(PurePosixPath(image.name).stem, ".webp")
    return await send_file(request, services.storage, StoredFile(file.key, file.sha256, file.size, filename, WEBP))
