"""Queues captionings, and waits for their changes."""

import asyncio
from functools import partial

from sqlalchemy.orm import Session

from app.auth.service import Caller, check_still_valid
from app.captionings.schemas import CaptioningRequest
from app.idempotency import Once
from app.services import Services
from core.db import captioners, captionings, datasets, quotas
from core.db.tables import Captioning, Dataset
from core.domain.captioner import CaptionerInfo
from core.domain.captioning import CaptioningPlan, plan_captioning
from core.domain.dataset import DatasetManifest
from core.domain.errors import NotFound, WrongState
from core.domain.limits import Limits
from core.domain.states import DatasetStatus


async def create(
    services: Services, once: Once, tenant_id: str, dataset_id: str, request: CaptioningRequest
) -> Captioning:
    """Raises NotFound, WrongState, InvalidRequest, IdempotencyMismatch or QuotaExceeded."""
    get = captionings.get_captioning
    if (original := await once.find(request, get)) is not None:
        return original
    dataset, info = await services.database.run(read_sources, tenant_id, dataset_id, request.captioner)
    # Thousands of images take time, which the event loop does not have.
    plan, num_images = await asyncio.to_thread(make_plan, dataset, info, request)
    defaults = services.settings.default_limits
    return await once.create(request, get, insert, tenant_id, dataset_id, defaults, request, plan, num_images)


def read_sources(session: Session, tenant_id: str, dataset_id: str, captioner_id: str) -> tuple[Dataset, CaptionerInfo]:
    """Raises NotFound, WrongState."""
    dataset = datasets.get_dataset(session, tenant_id, dataset_id, whole=True)
    if dataset.status != DatasetStatus.READY:
        raise WrongState(f"Dataset {dataset_id} is {dataset.status}: it can be captioned when it is ready.")
    try:
        return dataset, captioners.read_info(captioners.get_captioner(session, captioner_id))
    except (NotFound, WrongState) as error:
        raise type(error)(error.detail, {"/captioner": [error.detail]}) from None


def make_plan(dataset: Dataset, info: CaptionerInfo, request: CaptioningRequest) -> tuple[CaptioningPlan, int]:
    """And how many images it captions. Raises InvalidRequest."""
    manifest = DatasetManifest.model_validate(dataset.manifest)
    plan = plan_captioning(request, info, manifest, request.name)
    return plan, len(plan.choose_images(manifest))


def insert(
    session: Session,
    tenant_id: str,
    dataset_id: str,
    defaults: Limits,
    request: CaptioningRequest,
    plan: CaptioningPlan,
    num_images: int,
) -> Captioning:
    """The dataset may have been deleted since it was read. Raises NotFound, QuotaExceeded."""
    limits = quotas.lock_limits(session, tenant_id, defaults)
    datasets.get_dataset(session, tenant_id, dataset_id, lock=True)
    quotas.check_room(session, tenant_id, limits)
    spec = request.model_dump(mode="json")
    return captionings.insert_captioning(session, tenant_id, dataset_id, spec, plan, num_images=num_images)


async def wait_for_change(services: Services, caller: Caller, captioning_id: str, seconds: float) -> Captioning:
    """Once another image is captioned or it has ended, or when the time is up; at once if it has ended."""
    first = await services.database.run(read, caller, captioning_id)
    if seconds <= 0:
        return first
    return await services.progress.wait_until(
        captioning_id,
        partial(services.database.run, read, caller, captioning_id),
        lambda row: row.status != Captioning.CHECKING or row.num_done != first.num_done,
        seconds,
    )


def read(session: Session, caller: Caller, captioning_id: str) -> Captioning:
    """Raises NotFound, Unauthenticated."""
    check_still_valid(session, caller)
    return captionings.get_captioning(session, caller.tenant_id, captioning_id)
