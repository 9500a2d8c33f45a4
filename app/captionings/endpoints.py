"""/datasets/{id}/captions and /captionings: captions for datasets by captioners."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response
from sse_starlette import EventSourceResponse

from app.captionings import service
from app.captionings.schemas import EXAMPLE, CaptioningOut, CaptioningRequest
from app.deps import (
    DEFAULT_PAGE,
    PLAIN,
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
from app.idempotency import OnceDep
from app.media import describe_events
from app.openapi import problems
from app.pages import Page
from app.state_streams import send_states, write_example
from core.db import captionings

# Of a route that only streams, Schemathesis parses the messages, which are not strings.
STREAMED = describe_events(write_example("captioning", EXAMPLE), schema={})

router = APIRouter(tags=["captionings"], dependencies=[needs_key])


@router.post(
    "/datasets/{dataset_id}/captions",
    status_code=202,
    response_model=CaptioningOut,
    responses=problems("not-found", "wrong-state", "idempotency-mismatch"),
)
async def caption_dataset(
    dataset_id: Id,
    body: CaptioningRequest,
    caller: CallerDep,
    services: ServicesDep,
    once: OnceDep,
    response: Response,
) -> CaptioningOut:
    """Has a captioner write captions for the images of a ready dataset.

    A training worker does it when its device is free. It ends in a revision of the dataset, whose captions can be read
    and edited before training. Captions that the captioner wrote before for the same images with the same settings are
    used again.
    """
    row = await service.create(services, once, caller.tenant_id, dataset_id, body)
    services.doorbell.ring("train")
    response.headers["Location"] = f"/captionings/{row.id}"
    return CaptioningOut.of(row)


@router.get("/captionings", responses=problems())
async def list_captionings(
    caller: CallerDep,
    database: DatabaseDep,
    dataset: Annotated[
        str | None, Query(max_length=100, pattern=PLAIN, description="Those of this dataset alone.")
    ] = None,
    after: Annotated[str | None, continue_after("cap")] = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[CaptioningOut]:
    """Newest first."""
    rows, has_more = await database.run(
        captionings.list_captionings, caller.tenant_id, dataset_id=dataset, after=after, limit=limit
    )
    return Page[CaptioningOut].of([CaptioningOut.of(row) for row in rows], lambda row: row.id, has_more=has_more)


@router.get("/captionings/{captioning_id}", responses=problems("not-found"))
async def get_captioning(
    captioning_id: Id,
    caller: CallerDep,
    services: ServicesDep,
    wait: Annotated[float, wait_for("another caption")] = 0,
) -> CaptioningOut:
    """One captioning as it is now or, with `wait`, as soon as it has another caption or has ended."""
    return CaptioningOut.of(await service.wait_for_change(services, caller, captioning_id, wait))


@router.get(
    "/captionings/{captioning_id}/events",
    response_class=EventSourceResponse,
    responses={**STREAMED, **problems("not-found")},
)
async def stream_captioning(
    captioning_id: Id, caller: CallerDep, services: ServicesDep, last_event_id: LastEventId = None
) -> Response:
    """The captioning live, as server-sent events: its state at once and at each change, until it has ended. A stream
    that is opened again with `Last-Event-ID` leaves out the state with that id."""
    read = partial(services.database.run, service.read, caller, captioning_id)
    return await send_states(services.progress, captioning_id, read, CaptioningOut.of, "captioning", last_event_id)


@router.post("/captionings/{captioning_id}/cancel", responses=problems("not-found", "wrong-state"))
async def cancel_captioning(captioning_id: Id, caller: CallerDep, services: ServicesDep) -> CaptioningOut:
    """Ends it at once, without a revision. What is written by then is used again by the next captioning."""
    row = await services.database.run(captionings.cancel_captioning, caller.tenant_id, captioning_id)
    services.progress.announce(captioning_id)
    return CaptioningOut.of(row)


@router.delete("/captionings/{captioning_id}", status_code=204, responses=problems("not-found"))
async def delete_captioning(captioning_id: Id, caller: CallerDep, services: ServicesDep) -> None:
    """Deletes it, ended or not. Its revision stays."""
    await services.database.run(captionings.delete_captioning, caller.tenant_id, captioning_id)
    services.progress.announce(captioning_id)
