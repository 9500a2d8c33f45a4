"""Submits jobs, once for each Idempotency-Key, and waits for their changes."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.auth.service import Caller, check_still_valid
from app.idempotency import Once
from app.jobs.init_adapter import find_init_adapter, refuse_adapter
from app.jobs.schemas import JobOut, JobRequest
from app.services import Services
from core.db import adapters, datasets, jobs, models, quotas, waiting, workers
from core.db.tables import Dataset, Job
from core.domain.advice import Advice, advise
from core.domain.concepts import Concepts, join_datasets
from core.domain.dataset import DatasetManifest
from core.domain.errors import NotFound, UrlForbidden, WrongState
from core.domain.estimate import Estimate, Measured, estimate
from core.domain.init_adapter import InitAdapterSource
from core.domain.limits import Limits
from core.domain.missing_dataset import check_without_dataset
from core.domain.model import ModelInfo
from core.domain.plan import TrainPlan
from core.domain.plan_checks import check_devices
from core.domain.receivers import AllowList, Receiver
from core.domain.resolve import resolve
from core.domain.spec import TrainingSpec, WebhookSpec
from core.domain.states import TERMINAL, DatasetStatus, JobStatus
from core.domain.waiting import Place

NO_CONCEPTS = Concepts()


@dataclass(frozen=True)
class PlanInputs:
    """The inputs of a plan."""

    model: ModelInfo
    manifest: DatasetManifest
    concepts: Concepts
    measured: Measured | None
    init: InitAdapterSource | None
    limits: Limits
    largest_memory: int | None
    device_kinds: frozenset[str]


@dataclass(frozen=True)
class PlannedJob:
    spec: TrainingSpec
    plan: TrainPlan
    estimate: Estimate
    advice: tuple[Advice, ...]


async def submit(services: Services, once: Once, tenant_id: str, request: JobRequest) -> Job:
    """Raises NotFound, WrongState, InvalidSpec, IdempotencyMismatch or QuotaExceeded."""
    defaults, body = services.settings.default_limits, dump_request(request)
    if (original := await once.find(body, jobs.get_job)) is not None:
        return original
    planned = await plan_job(services, tenant_id, request)
    try:
        return await once.create(body, jobs.get_job, insert, tenant_id, defaults, request, planned)
    except IntegrityError as error:
        detail = "The dataset was deleted at this moment; choose another."
        raise NotFound(detail, {"/dataset": [detail]}) from error


async def plan_job(services: Services, tenant_id: str, request: JobRequest) -> PlannedJob:
    """Planning takes a while for thousands of images, so it runs outside the transaction and the event loop."""
    inputs = await services.database.run(load_inputs, tenant_id, services.settings.default_limits, request)
    return await asyncio.to_thread(plan_from, request.to_spec(), inputs)


def plan_from(spec: TrainingSpec, inputs: PlanInputs) -> PlannedJob:
    """Raises InvalidSpec."""
    plan = resolve(
        spec, inputs.manifest, inputs.model, init=inputs.init, limits=inputs.limits, concepts=inputs.concepts
    )
    check_devices(plan, inputs.model, inputs.largest_memory, inputs.device_kinds)
    estimated = estimate(
        plan, inputs.model, inputs.measured, kinds=inputs.device_kinds, largest_memory=inputs.largest_memory
    )
    advice = advise(plan, inputs.manifest, seconds=estimated.seconds, devices=inputs.device_kinds)
    return PlannedJob(spec, plan, estimated, advice)


def load_inputs(session: Session, tenant_id: str, defaults: Limits, request: JobRequest) -> PlanInputs:
    """Raises NotFound, WrongState or InvalidSpec, naming the field. A missing dataset is named only where
    nothing else is wrong, so that clients can check a spec before they send the images."""
    try:
        info = models.read_card(models.get_model(session, request.model))
    except (NotFound, WrongState) as error:
        raise type(error)(error.detail, {"/model": [error.detail]}) from None
    init = None if request.init_adapter is None else find_init_adapter(session, tenant_id, request.init_adapter, info)
    limits = quotas.get_limits(session, tenant_id, defaults)
    measured = jobs.measure_model(session, tenant_id, request.model)
    memory, kinds = workers.find_devices(session)

    def with_manifest(manifest: DatasetManifest, concepts: Concepts = NO_CONCEPTS) -> PlanInputs:
        return PlanInputs(info, manifest, concepts, measured, init, limits, memory, kinds)

    further = [
        (concept, read_manifest(find_dataset(session, tenant_id, concept.id, place), place))
        for place, concept in ((f"/datasets/{number}/id", one) for number, one in enumerate(request.datasets))
    ]
    try:
        dataset = find_dataset(session, tenant_id, request.dataset)
    except NotFound:
        check_without_dataset(request.to_spec(), info, lambda spec, manifest: plan_from(spec, with_manifest(manifest)))
        raise
    return with_manifest(*join_datasets(read_manifest(dataset), further))


def find_dataset(session: Session, tenant_id: str, dataset_id: str, place: str = "/dataset") -> Dataset:
    try:
        return datasets.get_dataset(session, tenant_id, dataset_id, whole=True)
    except NotFound as error:
        raise NotFound(error.detail, {place: [error.detail]}) from None


def read_manifest(dataset: Dataset, place: str = "/dataset") -> DatasetManifest:
    if dataset.status != DatasetStatus.READY:
        advice = {
            DatasetStatus.OPEN: f"finalize it first, by POST /datasets/{dataset.id}/finalize",
            DatasetStatus.VALIDATING: f"wait until GET /datasets/{dataset.id} says ready",
            DatasetStatus.REJECTED: "its report says why; upload a better one",
        }[DatasetStatus(dataset.status)]
        detail = f"Dataset {dataset.id} is {dataset.status}: {advice}."
        raise WrongState(detail, {place: [detail]})
    return DatasetManifest.model_validate(dataset.manifest)


def insert(session: Session, tenant_id: str, defaults: Limits, request: JobRequest, planned: PlannedJob) -> Job:
    """Reservation, job and first event together.

    Raises QuotaExceeded, InvalidSpec if the adapter to start from was deleted meanwhile, and IntegrityError if the
    dataset was.
    """
    limits = quotas.lock_limits(session, tenant_id, defaults)
    quotas.reserve_job(session, tenant_id, limits, steps=planned.plan.steps)
    if planned.plan.init_adapter is not None:
        try:
            adapters.keep_for_job(session, tenant_id, planned.plan.init_adapter.id)
        except NotFound as error:
            raise refuse_adapter(error.detail) from None
    return jobs.insert_job(
        session,
        tenant_id=tenant_id,
        model_id=request.model,
        dataset_id=request.dataset,
        spec=planned.spec,
        plan=planned.plan,
        estimate=planned.estimate,
        concepts=request.datasets,
    )


def list_page(
    session: Session,
    tenant_id: str,
    *,
    status: JobStatus | None,
    model: str | None,
    words: str | None,
    after: str | None,
    limit: int,
) -> tuple[Sequence[Job], bool, Mapping[str, Place]]:
    """The jobs, whether there are more, and the places of the queued ones."""
    rows, has_more = jobs.list_jobs(
        session, tenant_id, status=status, model=model, words=words, after=after, limit=limit
    )
    waits = any(job.status == JobStatus.QUEUED for job in rows)
    return rows, has_more, waiting.find_places(session, tenant_id) if waits else {}


async def show(services: Services, job: Job) -> JobOut:
    """With its place in the queue, if it waits."""
    if job.status != JobStatus.QUEUED:
        return JobOut.of(job)
    places = await services.database.run(waiting.find_places, job.tenant_id)
    return JobOut.of(job, places.get(job.id))


def dump_request(request: JobRequest) -> dict[str, Any]:
    """With the webhook's secret: a job with another one is another job. Only long random ones are accepted."""
    body = request.model_dump(mode="json", exclude_unset=True)
    if request.webhook is not None and request.webhook.secret is not None:
        body["webhook"]["secret"] = request.webhook.secret.get_secret_value()  # a dump has it masked
    return body


async def cancel(services: Services, tenant_id: str, job_id: str) -> Job:
    """Raises NotFound, WrongState."""
    return await _change(services, jobs.cancel_job, tenant_id, job_id)


async def pause(services: Services, tenant_id: str, job_id: str) -> Job:
    """Raises NotFound, WrongState."""
    return await _change(services, jobs.pause_job, tenant_id, job_id)


async def resume(services: Services, tenant_id: str, job_id: str) -> Job:
    """Raises NotFound, WrongState."""
    job = await _change(services, jobs.resume_job, tenant_id, job_id)
    services.doorbell.ring("train")
    return job


async def _change(services: Services, change: Callable[[Session, str, str], Job], tenant_id: str, job_id: str) -> Job:
    """With its event in one transaction; then listeners and the receiver are notified."""
    job = await services.database.run(change, tenant_id, job_id)
    services.progress.announce(job_id)
    services.doorbell.ring("deliver")
    return job


def read_job(session: Session, caller: Caller, job_id: str) -> Job:
    """Raises NotFound, Unauthenticated."""
    check_still_valid(session, caller)
    return jobs.get_job(session, caller.tenant_id, job_id)


async def wait_for_change(services: Services, caller: Caller, job_id: str, seconds: float) -> Job:
    """The job once its status has changed, or when the time is up; at once if it has ended."""
    first = await services.database.run(jobs.get_job, caller.tenant_id, job_id)
    if seconds <= 0:
        return first
    return await services.progress.wait_until(
        job_id,
        partial(services.database.run, read_job, caller, job_id),
        lambda job: job.status != first.status or JobStatus(job.status) in TERMINAL,
        seconds,
    )


def refuse_forbidden(allow: AllowList, webhook: WebhookSpec | None) -> None:
    """As far as possible without resolving a name; every delivery checks the rest. Raises UrlForbidden."""
    if webhook is None:
        return
    if (refusal := allow.find_refusal_unresolved(Receiver.parse(webhook.url))) is not None:
        advice = "Name a receiver on the public internet, or ask the operator to admit this one"
        raise UrlForbidden(
            f"/webhook/url: {refusal}. {advice} (ATELIER_WEBHOOK_ALLOW).", {"/webhook/url": [f"{refusal}, not called"]}
        )
