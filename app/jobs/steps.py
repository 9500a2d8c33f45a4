"""/jobs/{id}/steps, /promote and /samples: which step's adapter is the job's, and what is drawn in between."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from sqlalchemy.orm import Session

from app.auth.service import Caller, check_still_valid
from app.deps import CallerDep, DatabaseDep, Id, ServicesDep, needs_key, wait_for
from app.files import PNG, StoredFile, file_responses, send_file
from app.idempotency import OnceDep
from app.jobs.step_schemas import (
    MAX_PROMPTS,
    PromotionOut,
    PromotionRequest,
    SampleRequestOut,
    SamplesRequest,
    StepOut,
)
from app.openapi import OF_FILES, problems
from app.pages import Page
from app.services import Services
from core.db import jobs, promotions, quotas, sample_requests, step_adapters
from core.db.tables import Job, Promotion, SampleRequest
from core.domain.counts import counted
from core.domain.errors import NotFound
from core.domain.limits import Limits
from core.domain.prompts import put_trigger
from core.domain.states import TERMINAL, CheckStatus, JobStatus

router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"], dependencies=[needs_key])

Wait = Annotated[float, wait_for("the end")]


@router.get("/steps", responses=problems("not-found"))
async def list_job_steps(job_id: Id, caller: CallerDep, database: DatabaseDep) -> Page[StepOut]:
    """The steps whose adapters are kept, with their losses, in their order. `GET /jobs/{id}/adapter?step=` sends one,
    and `POST /jobs/{id}/promote` makes it the job's."""

    def read(session: Session) -> list[StepOut]:
        jobs.get_job(session, caller.tenant_id, job_id)
        return [StepOut.of(kept) for kept in step_adapters.list_steps(session, job_id)]

    return Page[StepOut].of(await database.run(read), lambda kept: str(kept.step))


@router.post(
    "/promote",
    response_model=PromotionOut,
    responses={
        202: {"model": PromotionOut, "description": "No worker has answered within `wait`: look at its Location."},
        **problems("not-found", "wrong-state"),
    },
)
async def promote_step(
    job_id: Id, body: PromotionRequest, caller: CallerDep, services: ServicesDep, response: Response, wait: Wait = 20
) -> PromotionOut:
    """Makes another step's adapter the adapter of a job that has succeeded. A worker first proves that its files load.
    The adapter keeps its id; its files, figures and proofs change."""
    await services.database.run(promotions.insert_promotion, caller.tenant_id, job_id, body.step)
    services.doorbell.ring("validate")
    services.doorbell.ring("train")
    promotion = await _wait_for_promotion(services, caller, job_id, wait)
    response.headers["Location"] = f"/jobs/{job_id}/promotion"
    response.status_code = 202 if promotion.status == CheckStatus.CHECKING else 200
    return PromotionOut.of(promotion)


@router.get("/promotion", responses=problems("not-found"))
async def get_job_promotion(job_id: Id, caller: CallerDep, services: ServicesDep, wait: Wait = 0) -> PromotionOut:
    """The latest promotion of a step as it is now or, with `wait`, as soon as it has ended."""
    return PromotionOut.of(await _wait_for_promotion(services, caller, job_id, wait))


async def _wait_for_promotion(services: Services, caller: Caller, job_id: str, seconds: float) -> Promotion:
    def read(session: Session) -> Promotion:
        check_still_valid(session, caller)
        return promotions.get_promotion(session, caller.tenant_id, job_id)

    return await services.progress.wait_until(
        job_id, partial(services.database.run, read), lambda row: row.status != Promotion.CHECKING, seconds
    )


@router.post("/samples", status_code=202, responses=problems("not-found", "wrong-state", "idempotency-mismatch"))
async def request_job_samples(
    job_id: Id, body: SamplesRequest, caller: CallerDep, services: ServicesDep, once: OnceDep, response: Response
) -> SampleRequestOut:
    """Has a running job draw these prompts at its next step. The training is not changed by it: its adapter has the
    same bytes."""

    def get(session: Session, tenant_id: str, request_id: str) -> SampleRequest:
        return sample_requests.get_request(session, tenant_id, job_id, request_id)

    defaults = services.settings.default_limits
    request = await once.create(body, get, _insert_request, caller.tenant_id, job_id, defaults, body)
    response.headers["Location"] = f"/jobs/{job_id}/samples/requests/{request.id}"
    return SampleRequestOut.of(request, has_ended=False)


def _insert_request(
    session: Session, tenant_id: str, job_id: str, defaults: Limits, body: SamplesRequest
) -> SampleRequest:
    """Raises NotFound, WrongState, QuotaExceeded."""
    job = jobs.get_job(session, tenant_id, job_id)
    quotas.check_room(session, tenant_id, quotas.get_limits(session, tenant_id, defaults))
    prompts = [put_trigger(prompt, job.outline["trigger"]) for prompt in body.prompts]
    return sample_requests.insert_request(session, tenant_id, job_id, prompts, body.seed)


@router.get("/samples/requests", responses=problems("not-found"))
async def list_sample_requests(job_id: Id, caller: CallerDep, database: DatabaseDep) -> Page[SampleRequestOut]:
    """The samples that were requested of the job, oldest first."""

    def read(session: Session) -> list[SampleRequestOut]:
        job = jobs.get_job(session, caller.tenant_id, job_id)
        rows = sample_requests.list_requests(session, caller.tenant_id, job_id)
        return [SampleRequestOut.of(row, has_ended=_has_ended(job)) for row in rows]

    return Page[SampleRequestOut].of(await database.run(read), lambda request: request.id)


@router.get("/samples/requests/{request_id}", responses=problems("not-found"))
async def get_sample_request(
    job_id: Id, request_id: Id, caller: CallerDep, services: ServicesDep, wait: Wait = 0
) -> SampleRequestOut:
    """One request as it is now or, with `wait`, as soon as it is answered."""

    def read(session: Session) -> SampleRequestOut:
        check_still_valid(session, caller)
        job = jobs.get_job(session, caller.tenant_id, job_id)
        row = sample_requests.get_request(session, caller.tenant_id, job_id, request_id)
        return SampleRequestOut.of(row, has_ended=_has_ended(job))

    return await services.progress.wait_until(
        job_id, partial(services.database.run, read), lambda request: request.status != "waiting", wait
    )


@router.get(
    "/samples/requests/{request_id}/{index}.png",
    response_class=Response,
    responses={**file_responses(PNG), **problems("not-found", *OF_FILES)},
)
async def download_requested_sample(
    job_id: Id,
    request_id: Id,
    index: Annotated[int, Path(ge=0, lt=MAX_PROMPTS)],
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
) -> Response:
    """One requested image, by its place among the prompts."""
    file = await services.database.run(_find_image, caller.tenant_id, job_id, request_id, index)
    return await send_file(request, services.storage, file)


def _find_image(session: Session, tenant_id: str, job_id: str, request_id: str, index: int) -> StoredFile:
    images = sample_requests.get_request(session, tenant_id, job_id, request_id).images
    if index >= len(images):
        raise NotFound(f"Request {request_id} has {counted(len(images), 'image')}, counted from 0.")
    image = images[index]
    return StoredFile(image["key"], image["sha256"], image["size"], f"{request_id}-{index}.png", PNG)


def _has_ended(job: Job) -> bool:
    return JobStatus(job.status) in TERMINAL
