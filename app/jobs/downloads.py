"""A job's products: metrics, checkpoints, samples and the adapter."""

from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy.orm import Session

from app.deps import CallerDep, DatabaseDep, Id, ServicesDep, needs_key
from app.files import PNG, SAFETENSORS, StoredFile, file_responses, send_file
from app.jobs.schemas import CheckpointOut, MetricOut, SampleOut
from app.openapi import OF_FILES, problems
from app.pages import Page
from core.db import job_outputs, jobs, step_adapters
from core.db.tables import Job
from core.domain.artifacts import AdapterFormat
from core.domain.counts import counted
from core.domain.errors import NotFound, WrongState
from core.domain.spec import MAX_STEPS
from core.domain.states import TERMINAL, JobStatus
from core.storage.disposition import make_filename

MAX_METRICS = 10_000
SUFFIXES: dict[AdapterFormat, str] = {"kohya": ".safetensors", "diffusers": ".diffusers.safetensors"}

router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"], dependencies=[needs_key])

Step = Annotated[int, Path(ge=0, le=MAX_STEPS)]


@router.get("/metrics", responses=problems("not-found"))
async def list_job_metrics(
    job_id: Id,
    caller: CallerDep,
    database: DatabaseDep,
    after: Annotated[int | None, Query(ge=0, le=MAX_STEPS, description="Continue after this step.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_METRICS)] = 1000,
    points: Annotated[
        int | None,
        Query(
            ge=2,
            le=MAX_METRICS,
            description="Instead of a page: about so many of all steps after `after`, evenly spaced, with the last and "
            "all that have a held-out loss.",
        ),
    ] = None,
) -> Page[MetricOut]:
    """In the order of the steps."""
    after_step = -1 if after is None else after

    def read(session: Session) -> tuple[list[MetricOut], bool]:
        jobs.get_job(session, caller.tenant_id, job_id)
        if points is not None:
            rows = job_outputs.thin_metrics(session, job_id, after_step=after_step, max_points=points)
            return [MetricOut.of(row) for row in rows], False
        rows, has_more = job_outputs.page_metrics(session, job_id, after_step=after_step, limit=limit)
        return [MetricOut.of(row) for row in rows], has_more

    metrics, has_more = await database.run(read)
    return Page[MetricOut].of(metrics, lambda metric: str(metric.step), has_more=has_more)


@router.get("/checkpoints", responses=problems("not-found"))
async def list_job_checkpoints(job_id: Id, caller: CallerDep, database: DatabaseDep) -> Page[CheckpointOut]:
    """The checkpoints that are kept: the newest."""

    def read(session: Session) -> list[CheckpointOut]:
        jobs.get_job(session, caller.tenant_id, job_id)
        return [CheckpointOut.of(row) for row in jobs.list_checkpoints(session, job_id)]

    return Page[CheckpointOut].of(await database.run(read), lambda checkpoint: str(checkpoint.step))


@router.get("/samples", responses=problems("not-found"))
async def list_job_samples(job_id: Id, caller: CallerDep, database: DatabaseDep) -> Page[SampleOut]:
    """The images of each step that has samples, in the order of the steps."""

    def read(session: Session) -> list[SampleOut]:
        jobs.get_job(session, caller.tenant_id, job_id)
        return [SampleOut.of(row) for row in jobs.list_samples(session, job_id)]

    return Page[SampleOut].of(await database.run(read), lambda sample: str(sample.step))


@router.get(
    "/checkpoints/{step}/download",
    response_class=Response,
    responses={**file_responses(SAFETENSORS), **problems("not-found", *OF_FILES)},
)
async def download_checkpoint(
    job_id: Id, step: Step, request: Request, caller: CallerDep, services: ServicesDep
) -> Response:
    """The training state after a step, as a .safetensors file for Atelier itself."""
    file = await services.database.run(find_checkpoint, caller.tenant_id, job_id, step)
    return await send_file(request, services.storage, file)


@router.get(
    "/samples/{step}/grid.png",
    response_class=Response,
    responses={**file_responses(PNG), **problems("not-found", *OF_FILES)},
)
async def download_sample_grid(
    job_id: Id, step: Step, request: Request, caller: CallerDep, services: ServicesDep
) -> Response:
    """The labelled grid of a step: one row for each prompt, the base beside the adapter."""
    file = await services.database.run(find_grid, caller.tenant_id, job_id, step)
    return await send_file(request, services.storage, file)


@router.get(
    "/samples/{step}/{index}.png",
    response_class=Response,
    responses={**file_responses(PNG), **problems("not-found", *OF_FILES)},
)
async def download_sample(
    job_id: Id,
    step: Step,
    index: Annotated[int, Path(ge=0, le=1000)],
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
) -> Response:
    """One image of a step, by its place among the prompts."""
    file = await services.database.run(find_sample, caller.tenant_id, job_id, step, index)
    return await send_file(request, services.storage, file)


@router.get(
    "/adapter",
    response_class=Response,
    responses={**file_responses(SAFETENSORS), **problems("not-found", "wrong-state", *OF_FILES)},
)
async def download_adapter(
    job_id: Id,
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    adapter_format: Annotated[AdapterFormat, Query(alias="format")] = "kohya",
    step: Annotated[
        int | None,
        Query(ge=1, le=MAX_STEPS, description="One that GET /jobs/{id}/steps lists; default: the job's own."),
    ] = None,
) -> Response:
    """The finished .safetensors: `kohya` for A1111, Forge, ComfyUI and sd-scripts, or `diffusers`. With `step`, the
    adapter of that step, also while the job runs."""
    if step is None:
        file = await services.database.run(find_adapter, caller.tenant_id, job_id, adapter_format)
    else:
        file = await services.database.run(find_step_adapter, caller.tenant_id, job_id, step, adapter_format)
    return await send_file(request, services.storage, file)


def find_checkpoint(session: Session, tenant_id: str, job_id: str, step: int) -> StoredFile:
    job = jobs.get_job(session, tenant_id, job_id)
    row = job_outputs.get_checkpoint(session, job_id, step)
    filename = make_filename(f"{name_of(job)}-step-{step}", PurePosixPath(row.key).suffix)
    return StoredFile(row.key, row.sha256, row.size, filename, SAFETENSORS)


def find_grid(session: Session, tenant_id: str, job_id: str, step: int) -> StoredFile:
    job = jobs.get_job(session, tenant_id, job_id)
    grid = jobs.get_sample(session, job_id, step).grid
    filename = make_filename(f"{name_of(job)}-step-{step}", ".png")
    return StoredFile(grid["key"], grid["sha256"], grid["size"], filename, PNG)


def find_sample(session: Session, tenant_id: str, job_id: str, step: int, index: int) -> StoredFile:
    job = jobs.get_job(session, tenant_id, job_id)
    images = jobs.get_sample(session, job_id, step).images
    if index >= len(images):
        raise NotFound(f"Step {step} of job {job_id} has {counted(len(images), 'image')}, counted from 0.")
    image = images[index]
    filename = make_filename(f"{name_of(job)}-step-{step}-{index}", ".png")
    return StoredFile(image["key"], image["sha256"], image["size"], filename, PNG)


def find_adapter(session: Session, tenant_id: str, job_id: str, adapter_format: AdapterFormat) -> StoredFile:
    job = jobs.get_job(session, tenant_id, job_id)
    row = jobs.get_artifact(session, job_id, f"adapter-{adapter_format}")
    if row is None:
        has_ended = JobStatus(job.status) in TERMINAL
        then = "it ended without an adapter" if has_ended else "the adapter is available once the job has succeeded"
        raise WrongState(f"Job {job_id} is {job.status}: {then}.")
    return StoredFile(row.key, row.sha256, row.size, make_filename(name_of(job), SUFFIXES[adapter_format]), SAFETENSORS)


def find_step_adapter(
    session: Session, tenant_id: str, job_id: str, step: int, adapter_format: AdapterFormat
) -> StoredFile:
    """Raises NotFound."""
    job = jobs.get_job(session, tenant_id, job_id)
    file = step_adapters.get_step(session, job_id, step).files[adapter_format]
    filename = make_filename(f"{name_of(job)}-step-{step}", SUFFIXES[adapter_format])
    return StoredFile(file["key"], file["sha256"], file["size"], filename, SAFETENSORS)


def name_of(job: Job) -> str:
    return str(job.outline["name"])
