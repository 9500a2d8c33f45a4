"""/adapters: find, download, import, merge, change, delete."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.adapters import covers, extracting, merging, service
from app.adapters.receiving import FILE_FIELD
from app.adapters.schemas import AdapterChange, AdapterExtraction, AdapterMerge, AdapterOut, AdapterResize
from app.deps import DEFAULT_PAGE, PLAIN, CallerDep, DatabaseDep, Id, Limit, ServicesDep, continue_after, needs_key
from app.files import PNG, SAFETENSORS, file_responses, send_file
from app.idempotency import OnceDep
from app.media import MULTIPART, media_type_of
from app.openapi import OF_FILES, problems
from app.pages import Page
from app.services import Services
from core.db import adapters
from core.db.tables import Adapter
from core.domain.artifacts import AdapterFormat
from core.domain.errors import UnsupportedMedia

router = APIRouter(prefix="/adapters", tags=["adapters"], dependencies=[needs_key])

Words = Annotated[str | None, Query(min_length=1, max_length=200, pattern=PLAIN)]

FORM: dict[str, Any] = {
    "type": "object",
    "required": [FILE_FIELD, "model"],
    "properties": {
        FILE_FIELD: {
            "type": "string",
            "format": "binary",
            "description": "A .safetensors file by kohya or diffusers.",
        },
        "model": {"type": "string", "description": "The id of the base model that the adapter is for."},
        "name": {"type": "string", "maxLength": 100, "description": "By default the file's name."},
        "trigger": {"type": "string", "maxLength": 100, "description": "By default the file's own trigger."},
        "tags": {"type": "string", "description": "Separated by commas."},
    },
}
IMPORT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": FORM,
                "example": {FILE_FIELD: "ink.safetensors", "model": "tiny", "tags": "style, ink"},
                "encoding": {FILE_FIELD: {"contentType": "application/octet-stream"}},
            }
        },
    }
}


@router.get("", responses=problems("not-found"))
async def list_adapters(
    caller: CallerDep,
    database: DatabaseDep,
    model: Words = None,
    trigger: Words = None,
    tag: Words = None,
    text: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            pattern=PLAIN,
            description="Words, each of which is in the name, description, notes, trigger or tags.",
        ),
    ] = None,
    like: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=100,
            pattern=PLAIN,
            description="The id of an adapter: others for the same base with its trigger, one of its tags or its "
            "dataset, and those that it was merged from or into.",
        ),
    ] = None,
    after: Annotated[str | None, continue_after("ad")] = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[AdapterOut]:
    """Newest first: trained, imported and merged ones."""
    rows, has_more = await database.run(
        adapters.list_adapters,
        caller.tenant_id,
        model=model,
        trigger=trigger,
        tag=tag,
        words=text,
        like=like,
        after=after,
        limit=limit,
    )
    shown = [AdapterOut.of(row).without_layers() for row in rows]
    return Page[AdapterOut].of(shown, lambda adapter: adapter.id, has_more=has_more)


@router.post(
    "",
    status_code=202,
    response_model=AdapterOut,
    openapi_extra=IMPORT_BODY,
    responses=problems("not-found", "wrong-state", "weights-rejected", "unsupported-weights"),
)
async def import_adapter(request: Request, caller: CallerDep, services: ServicesDep, response: Response) -> AdapterOut:
    """Imports a .safetensors file trained elsewhere, for one base. It is `checking` until a worker has read it:
    `GET /adapters/{id}` then says `ready`, or `rejected` with the reason.
    """
    if media_type_of(request.headers) != MULTIPART:
        raise UnsupportedMedia(f"Send the file as multipart/form-data, in the field `{FILE_FIELD}`, and the `model`.")
    adapter = await service.import_file(services, caller.tenant_id, request.stream(), request.headers["content-type"])
    return _accept(services, response, adapter)


@router.post("/merge", status_code=202, responses=problems("not-found", "wrong-state", "idempotency-mismatch"))
async def merge_adapters(
    body: AdapterMerge, caller: CallerDep, services: ServicesDep, once: OnceDep, response: Response
) -> AdapterOut:
    """Makes one adapter from a weighted stack of others for the same base. It is `checking` until a worker has made
    it, and keeps nothing of the others: they may be deleted once it is `ready`.
    """
    insert = merging.insert_merge
    adapter = await once.create(body, adapters.get_adapter, insert, services.settings, caller.tenant_id, body)
    return _accept(services, response, adapter)


@router.post("/extract", status_code=202, responses=problems("not-found", "wrong-state", "idempotency-mismatch"))
async def extract_adapter(
    body: AdapterExtraction, caller: CallerDep, services: ServicesDep, once: OnceDep, response: Response
) -> AdapterOut:
    """Makes an adapter of the difference between a fine-tuned base and the one it was tuned from. `merge.error` says
    how much of the difference it misses, in total (with what no adapter can hold) and for each layer.
    """
    insert = extracting.insert
    adapter = await once.create(body, adapters.get_adapter, insert, services.settings, caller.tenant_id, body)
    return _accept(services, response, adapter)


@router.post(
    "/{adapter_id}/resize", status_code=202, responses=problems("not-found", "wrong-state", "idempotency-mismatch")
)
async def resize_adapter(
    adapter_id: Id,
    body: AdapterResize,
    caller: CallerDep,
    services: ServicesDep,
    once: OnceDep,
    response: Response,
) -> AdapterOut:
    """Makes a smaller adapter from one, the best of that rank; the first stays as it is. `merge.error` says how far
    the two are apart."""
    adapter = await once.create(
        body, adapters.get_adapter, merging.insert_resize, services.settings, caller.tenant_id, adapter_id, body
    )
    return _accept(services, response, adapter)


def _accept(services: Services, response: Response, adapter: Adapter) -> AdapterOut:
    """For a worker to check or make."""
    services.doorbell.ring("validate")
    services.doorbell.ring("train")
    response.headers["Location"] = f"/adapters/{adapter.id}"
    return AdapterOut.of(adapter)


@router.get("/{adapter_id}", responses=problems("not-found"))
async def get_adapter(adapter_id: Id, caller: CallerDep, database: DatabaseDep) -> AdapterOut:
    """One adapter, with its figures and the addresses of its files."""
    return AdapterOut.of(await database.run(adapters.get_adapter, caller.tenant_id, adapter_id))


@router.patch("/{adapter_id}", responses=problems("not-found"))
async def change_adapter(adapter_id: Id, body: AdapterChange, caller: CallerDep, services: ServicesDep) -> AdapterOut:
    """Changes name, description, notes, licence, tags and cover. The adapter's files never change."""
    return AdapterOut.of(await covers.change(services, caller.tenant_id, adapter_id, body))


@router.get(
    "/{adapter_id}/cover.png",
    response_class=Response,
    responses={**file_responses(PNG), **problems("not-found", *OF_FILES)},
)
async def download_adapter_cover(
    adapter_id: Id, request: Request, caller: CallerDep, services: ServicesDep
) -> Response:
    """The image that stands for the adapter."""
    file = await services.database.run(covers.find_cover, caller.tenant_id, adapter_id)
    return await send_file(request, services.storage, file)


@router.delete("/{adapter_id}", status_code=204, responses=problems("not-found", "wrong-state"))
async def delete_adapter(adapter_id: Id, caller: CallerDep, services: ServicesDep) -> None:
    """Deletes an imported or merged adapter, and its files, unless an unfinished job starts from it or a merge is
    being made from it. A job's adapter is deleted with its job."""
    await service.delete(services, caller.tenant_id, adapter_id)


@router.get(
    "/{adapter_id}/download",
    response_class=Response,
    responses={**file_responses(SAFETENSORS), **problems("not-found", "wrong-state", *OF_FILES)},
)
async def download_adapter_file(
    adapter_id: Id,
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    adapter_format: Annotated[AdapterFormat, Query(alias="format")] = "kohya",
) -> Response:
    """The .safetensors: `kohya` for A1111, Forge, ComfyUI and sd-scripts, or `diffusers`."""
    file = await services.database.run(service.find_file, caller.tenant_id, adapter_id, adapter_format)
    return await send_file(request, services.storage, file)
