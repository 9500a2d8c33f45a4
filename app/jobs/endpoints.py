"""/jobs: submit, read, and request a change of state."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from app.cleaning import remove_prefix
from app.deps import (
    DEFAULT_PAGE,
    PLAIN,
    After,
    CallerDep,
    DatabaseDep,
    Id,
    LastEventId,
    Limit,
    ServicesDep,
    StorageDep,
    continue_after,
    needs_key,
    wait_for,
)
from app.idempotency import OnceDep
from app.jobs import examples, service, stream
from app.jobs.schemas import DryRun, EventOut, JobOut, JobRequest
from app.media import EVENT_STREAM, accepts, describe_events, end_events, send_events
from app.openapi import problems
from app.pages import Page
from core.db import jobs
from core.domain.artifacts import job_prefix
from core.domain.states import JobStatus

MAX_EVENTS = 1000

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=[needs_key])

EVENT_RESPONSES = describe_events(examples.EVENT_STREAM)


@router.post(
    "",
    status_code=201,
    response_model=JobOut,
    responses={
        200: {"model": DryRun, "description": "With `dry_run`: the plan and its estimate."},
        **problems(
            "invalid-spec",
            "url-forbidden",
            "not-found",
            "wrong-state",
            "idempotency-mismatch",
        ),
    },
)
async def create_job(
    body: JobRequest,
    caller: CallerDep,
    services: ServicesDep,
    once: OnceDep,
    response: Response,
    dry_run: Annotated[bool, Query(description="Return the plan, an estimate and warnings; queue nothing.")] = False,
) -> JobOut | Response:
    """Queues a training. `{"model", "dataset"}` is enough."""
    service.refuse_forbidden(services.settings.webhook_allow, body.webhook)
    if dry_run:
        planned = await service.plan_job(services, caller.tenant_id, body)
        return JSONResponse(DryRun.of(planned.plan, planned.estimate, planned.advice).model_dump(mode="json"))
    job = await service.submit(services, once, caller.tenant_id, body)
    services.doorbell.ring("train")
    if body.webhook is not None:
        services.doorbell.ring("deliver")
    response.headers["Location"] = f"/jobs/{job.id}"
    return JobOut.of(job).as_accepted()


@router.get("", responses=problems())
async def list_jobs(
    caller: CallerDep,
    database: DatabaseDep,
    status: JobStatus | None = None,
    model: Annotated[str | None, Query(max_length=100, pattern=PLAIN)] = None,
    text: Annotated[
        str | None,
        Query(min_length=1, max_length=200, pattern=PLAIN, description="In the name, trigger or id."),
    ] = None,
    after: Annotated[str | None, continue_after("job")] = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[JobOut]:
    """Newest first."""
    rows, has_more, places = await database.run(
        service.list_page, caller.tenant_id, status=status, model=model, words=text, after=after, limit=limit
    )
    shown = [JobOut.of(job, places.get(job.id)) for job in rows]
    return Page[JobOut].of(shown, lambda job: job.id, has_more=has_more)


@router.get("/{job_id}", responses=problems("not-found"))
async def get_job(
    job_id: Id,
    caller: CallerDep,
    services: ServicesDep,
    wait: Annotated[float, wait_for("another status")] = 0,
) -> JobOut:
    """One job as it is now or, with `wait`, as soon as its status changes."""
    job = await service.wait_for_change(services, caller, job_id, wait)
    return await service.show(services, job)


@router.post("/{job_id}/cancel", status_code=202, responses=problems("not-found", "wrong-state"))
async def cancel_job(job_id: Id, caller: CallerDep, services: ServicesDep) -> JobOut:
    """A queued or paused job ends at once; a running one within seconds, as `canceling` until then."""
    return JobOut.of(await service.cancel(services, caller.tenant_id, job_id))


@router.post("/{job_id}/pause", status_code=202, responses=problems("not-found", "wrong-state"))
async def pause_job(job_id: Id, caller: CallerDep, services: ServicesDep) -> JobOut:
    """Keeps the training state, and frees the device."""
    return JobOut.of(await service.pause(services, caller.tenant_id, job_id))


@router.post("/{job_id}/resume", status_code=202, responses=problems("not-found", "wrong-state"))
async def resume_job(job_id: Id, caller: CallerDep, services: ServicesDep) -> JobOut:
    """Queues a paused job again; it continues where it stopped, byte for byte."""
    return await service.show(services, await service.resume(services, caller.tenant_id, job_id))


@router.get(
    "/{job_id}/events",
    response_model=Page[EventOut],
    responses={**EVENT_RESPONSES, **problems("not-found")},
)
async def list_job_events(
    job_id: Id,
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = MAX_EVENTS,
    wait: Annotated[float, wait_for("an event")] = 0,
    last_event_id: LastEventId = None,
) -> Page[EventOut] | Response:
    """The job's events, oldest first. With `wait`, as soon as there is an event after `after`. With
    `Accept: text/event-stream`, live until the job ends."""
    place = await services.database.run(stream.resolve_cursor, caller.tenant_id, job_id, last_event_id or after)
    if accepts(request.headers, EVENT_STREAM):
        if last_event_id is not None and await services.database.run(stream.has_passed, caller, job_id, place):
            return end_events()
        return send_events(stream.stream_events(services, caller, job_id, place))
    rows = await stream.wait_for_events(services, caller, job_id, place, seconds=wait, limit=limit + 1)
    events = [EventOut.of(event) for event in rows[:limit]]
    return Page[EventOut].of(events, lambda event: event.id, has_more=len(rows) > limit)


@router.delete("/{job_id}", status_code=204, responses=problems("not-found", "wrong-state"))
async def delete_job(job_id: Id, caller: CallerDep, database: DatabaseDep, storage: StorageDep) -> None:
    """Deletes a job that has ended, and its files."""
    await database.run(jobs.delete_job, caller.tenant_id, job_id)
    await remove_prefix(storage, job_prefix(job_id))
