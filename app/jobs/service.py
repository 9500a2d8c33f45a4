"""Submits jobs, once for each Idempotency-Key, and waits for their changes."""

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database import Database
from app.jobs.schemas import JobRequest
from app.services import Services
from core.db import datasets, jobs, models
from core.db.tables import Dataset, Job
from core.domain.dataset import DatasetManifest
from core.domain.errors import IdempotencyMismatch, NotFound, WrongState
from core.domain.model import ModelInfo
from core.domain.plan import Estimate, Measured, TrainPlan, estimate, resolve
from core.domain.spec import TrainingSpec
from core.domain.states import TERMINAL, DatasetStatus, JobStatus

ROUTE = "POST /jobs"


@dataclass(frozen=True)
class Sources:
    """What a plan is made from."""

    model: ModelInfo
    manifest: DatasetManifest
    measured: Measured | None


@dataclass(frozen=True)
class Draft:
    spec: TrainingSpec
    plan: TrainPlan
    estimate: Estimate


@dataclass(frozen=True)
class Submitted:
    """``replayed``: the job of an earlier request with the same Idempotency-Key."""

    job: Job
    replayed: bool


async def submit(database: Database, tenant_id: str, request: JobRequest, key: str | None) -> Submitted:
    """Raises NotFound, WrongState, InvalidSpec or IdempotencyMismatch."""
    body_sha256 = hash_request(request)
    if key is not None and (original := await database.run(find_original, tenant_id, key, body_sha256)):
        return Submitted(original, replayed=True)
    draft = await draw_up(database, tenant_id, request)
    try:
        job = await database.run(insert, tenant_id, request, draft, key, body_sha256)
    except IntegrityError as error:
        return Submitted(await find_winner(database, tenant_id, key, body_sha256, error), replayed=True)
    return Submitted(job, replayed=False)


async def draw_up(database: Database, tenant_id: str, request: JobRequest) -> Draft:
    """Planning takes a while for thousands of images: not in a transaction, and not in the event loop."""
    sources = await database.run(load_sources, tenant_id, request.model, request.dataset)
    return await asyncio.to_thread(plan_from, request.to_spec(), sources)


def plan_from(spec: TrainingSpec, sources: Sources) -> Draft:
    plan = resolve(spec, sources.manifest, sources.model)
    return Draft(spec, plan, estimate(plan, sources.model, sources.measured))


def load_sources(session: Session, tenant_id: str, model_id: str, dataset_id: str) -> Sources:
    """Raises NotFound or WrongState, with the field that is to blame."""
    try:
        model = models.get_model(session, model_id)
    except NotFound as error:
        raise NotFound(error.detail, {"/model": [error.detail]}) from None
    manifest = read_manifest(find_dataset(session, tenant_id, dataset_id))
    return Sources(ModelInfo.model_validate(model.info), manifest, jobs.measure_model(session, model_id))


def find_dataset(session: Session, tenant_id: str, dataset_id: str) -> Dataset:
    try:
        return datasets.get_dataset(session, tenant_id, dataset_id)
    except NotFound as error:
        raise NotFound(error.detail, {"/dataset": [error.detail]}) from None


def read_manifest(dataset: Dataset) -> DatasetManifest:
    if dataset.status != DatasetStatus.READY:
        advice = {
            DatasetStatus.OPEN: f"finalize it first, by POST /datasets/{dataset.id}/finalize",
            DatasetStatus.VALIDATING: f"wait until GET /datasets/{dataset.id} says ready",
            DatasetStatus.REJECTED: "its report says why; upload a better one",
        }[DatasetStatus(dataset.status)]
        detail = f"Dataset {dataset.id} is {dataset.status}: {advice}."
        raise WrongState(detail, {"/dataset": [detail]})
    return DatasetManifest.model_validate(dataset.manifest)


def insert(
    session: Session, tenant_id: str, request: JobRequest, draft: Draft, key: str | None, body_sha256: str
) -> Job:
    """Job, first event and idempotency record together. Raises IntegrityError when a racing repeat was first."""
    job = jobs.insert_job(
        session,
        tenant_id=tenant_id,
        model_id=request.model,
        dataset_id=request.dataset,
        spec=draft.spec,
        plan=draft.plan,
        estimate=draft.estimate,
    )
    if key is not None:
        jobs.record_idempotent(session, tenant_id, ROUTE, key, body_sha256, job.id)
    return job


def find_original(session: Session, tenant_id: str, key: str, body_sha256: str) -> Job | None:
    """The job that this key made before. Raises IdempotencyMismatch when it was made from another body."""
    record = jobs.find_idempotent(session, tenant_id, ROUTE, key)
    if record is None:
        return None
    if record.body_sha256 != body_sha256:
        raise IdempotencyMismatch(
            f"This Idempotency-Key made {record.job_id} from another body. Send that body again, or use a new key."
        )
    return jobs.get_job(session, tenant_id, record.job_id)


async def find_winner(
    database: Database, tenant_id: str, key: str | None, body_sha256: str, error: IntegrityError
) -> Job:
    """The insert failed: a racing repeat was first, whose job this is; or the dataset was deleted meanwhile."""
    if key is not None and (original := await database.run(find_original, tenant_id, key, body_sha256)):
        return original
    detail = "The dataset was deleted in this moment; choose another."
    raise NotFound(detail, {"/dataset": [detail]}) from error


def hash_request(request: JobRequest) -> str:
    """Over the parsed body, so that spaces and the order of fields do not count."""
    body = json.dumps(request.model_dump(mode="json", exclude_unset=True), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()


async def wait_for_change(services: Services, tenant_id: str, job_id: str, seconds: float) -> Job:
    """The job once its status is another than now, or the seconds are up; at once when it has ended."""
    deadline = time.monotonic() + seconds
    with services.progress.listen(job_id) as listener:
        job = first = await services.database.run(jobs.get_job, tenant_id, job_id)
        while job.status == first.status and JobStatus(job.status) not in TERMINAL:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            await listener.wait(left)
            job = await services.database.run(jobs.get_job, tenant_id, job_id)
    return job
