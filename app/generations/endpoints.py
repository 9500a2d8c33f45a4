"""/generations: images that a base draws with a stack of adapters."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.deps import (
    DEFAULT_PAGE,
    CallerDep,
    DatabaseDep,
    Id,
    LastEventId,
    Limit,
    ServicesDep,
    continue_after,
    needs_key,
    wait_for,
)
from app.files import PNG, file_responses, send_file
from app.generations import service
from app.generations.schemas import EXAMPLE, GenerationOut, GenerationRequest
from app.idempotency import OnceDep
from app.media import EVENT_STREAM, accepts, describe_events
from app.openapi import OF_FILES, problems
from app.pages import Page
from app.state_streams import send_states, write_example
from core.db import generations
from core.domain.generation import MAX_IMAGES, MAX_PROMPTS

STREAMED = describe_events(write_example("generation", EXAMPLE))

router = APIRouter(prefix="/generations", tags=["generations"], dependencies=[needs_key])


@router.post(
    "",
    status_code=201,
    response_model=GenerationOut,
    responses=problems("invalid-spec", "not-found", "wrong-state", "idempotency-mismatch"),
)
async def create_generation(
    body: GenerationRequest,
    caller: CallerDep,
    services: ServicesDep,
    once: OnceDep,
    response: Response,
) -> GenerationOut:
    """Queues a generation. `{"model", "prompts"}` is enough. A training worker draws it when its device is
    free, or between the steps of a job on the same base."""
    defaults = services.settings.default_limits
    row = await once.create(body, generations.get_generation, service.insert, caller.tenant_id, defaults, body)
    services.doorbell.ring("train")
    response.headers["Location"] = f"/generations/{row.id}"
    return GenerationOut.of(row)


@router.get("", responses=problems())
async def list_generations(
    caller: CallerDep,
    database: DatabaseDep,
    after: Annotated[str | None, continue_after("gen")] = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[GenerationOut]:
    """Newest first."""
    rows, has_more = await database.run(generations.list_generations, caller.tenant_id, after=after, limit=limit)
    return Page[GenerationOut].of([GenerationOut.of(row) for row in rows], lambda row: row.id, has_more=has_more)


@router.get("/{generation_id}", response_model=GenerationOut, responses={**STREAMED, **problems("not-found")})
async def get_generation(
    generation_id: Id,
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    wait: Annotated[float, wait_for("another image")] = 0,
    last_event_id: LastEventId = None,
) -> GenerationOut | Response:
    """One generation as it is now or, with `wait`, as soon as it has another image or has ended. With `Accept:
    text/event-stream`, live: its state at once and at each change, until it has ended."""
    if accepts(request.headers, EVENT_STREAM):
        read = partial(services.database.run, service.read, caller, generation_id)
        return await send_states(services.progress, generation_id, read, GenerationOut.of, "generation", last_event_id)
    return GenerationOut.of(await service.wait_for_change(services, caller, generation_id, wait))


@router.post("/{generation_id}/cancel", responses=problems("not-found", "wrong-state"))
async def cancel_generation(generation_id: Id, caller: CallerDep, services: ServicesDep) -> GenerationOut:
    """Ends it at once. The images that are drawn stay."""
    row = await services.database.run(generations.cancel_generation, caller.tenant_id, generation_id)
    services.progress.announce(generation_id)
    return GenerationOut.of(row)


@router.delete("/{generation_id}", status_code=204, responses=problems("not-found"))
async def delete_generation(generation_id: Id, caller: CallerDep, services: ServicesDep) -> None:
    """Deletes it, ended or not, with its images."""
    await service.delete(services, caller.tenant_id, generation_id)


@router.get(
    "/{generation_id}/images/{index}.png",
    response_class=Response,
    responses={**file_responses(PNG), **problems("not-found", *OF_FILES)},
)
async def download_generated_image(
    generation_id: Id,
    index: Annotated[int, Path(ge=0, lt=MAX_IMAGES)],
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
) -> Response:
    """An image, with its parameters in the PNG as A1111 writes them."""
    file = await services.database.run(service.find_image, caller.tenant_id, generation_id, index)
    return await send_file(request, services.storage, file)


@router.get(
    "/{generation_id}/sheets/{prompt}.png",
    response_class=Response,
    responses={**file_responses(PNG), **problems("not-found", *OF_FILES)},
)
async def download_generated_sheet(
    generation_id: Id,
    prompt: Annotated[int, Path(ge=0, lt=MAX_PROMPTS, description="The prompt's number, from 0.")],
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
) -> Response:
    """The images of a prompt's grid on one labelled sheet."""
    file = await services.database.run(service.find_sheet, caller.tenant_id, generation_id, prompt)
    return await send_file(request, services.storage, file)
