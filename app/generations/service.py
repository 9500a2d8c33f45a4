"""Queues generations, and waits for their changes."""

from functools import partial

from sqlalchemy.orm import Session

from app.auth.service import Caller, check_still_valid
from app.cleaning import remove_prefix
from app.files import PNG, StoredFile
from app.services import Services
from core.db import adapters, generations, jobs, models, quotas, step_adapters, workers
from core.db.tables import Generation
from core.domain.artifacts import Artifact, generation_prefix
from core.domain.errors import InvalidSpec, NotFound, WrongState
from core.domain.generation import (
    GENERATION_FORMAT,
    AdapterWeight,
    GenerationSpec,
    StackedAdapter,
    list_adapters,
    name_sheet,
    resolve_generation,
)
from core.domain.limits import Limits
from core.domain.memory_choices import check_generation
from core.domain.model import ModelInfo
from core.domain.states import AdapterStatus


def insert(session: Session, tenant_id: str, defaults: Limits, spec: GenerationSpec) -> Generation:
    """Raises NotFound, WrongState, InvalidSpec or QuotaExceeded."""
    limits = quotas.lock_limits(session, tenant_id, defaults)
    try:
        model = models.read_card(models.get_model(session, spec.model))
    except (NotFound, WrongState) as error:
        raise type(error)(error.detail, {"/model": [error.detail]}) from None
    stack = [
        _find_adapter(session, tenant_id, model, _point(spec, number), asked)
        for number, asked in enumerate(list_adapters(spec))
    ]
    plan = resolve_generation(spec, model, stack)
    memory, kinds = workers.find_devices(session)
    if memory is not None:
        check_generation(plan, model, "cuda" if "cuda" in kinds else "cpu", memory)
    quotas.check_room(session, tenant_id, limits)
    return generations.insert_generation(session, tenant_id, spec.model_dump(mode="json"), plan)


GRID = "/grid"


def _point(spec: GenerationSpec, number: int) -> str:
    """Where in the spec the adapter stands."""
    return f"/adapters/{number}" if number < len(spec.adapters) else GRID


def _within(place: str, field: str) -> str:
    return GRID if place == GRID else f"{place}/{field}"


def _find_adapter(
    session: Session, tenant_id: str, model: ModelInfo, place: str, asked: AdapterWeight
) -> StackedAdapter:
    if asked.job is not None and asked.step is not None:
        return _find_step(session, tenant_id, model, place, asked.job, asked.step, asked.weight)
    pointer, adapter_id = _within(place, "id"), asked.id or ""
    try:
        adapter = adapters.get_adapter(session, tenant_id, adapter_id)
    except NotFound as error:
        raise NotFound(error.detail, {pointer: [error.detail]}) from None
    if adapter.status != AdapterStatus.READY:
        detail = f"Adapter {adapter.id} is {adapter.status}: it can be used when it is ready."
        raise WrongState(detail, {pointer: [detail]})
    if adapter.model_sha256 != model.sha256:
        detail = f"Adapter {adapter.id} is for {_name_base(adapter.model_id, model)}."
        raise InvalidSpec(detail, {pointer: [detail]})
    file = adapter.files.get(GENERATION_FORMAT)
    if file is None:
        detail = f"Adapter {adapter.id} is not available in {GENERATION_FORMAT}'s format."
        raise InvalidSpec(detail, {pointer: [detail]})
    return StackedAdapter(id=adapter.id, name=adapter.name, weight=asked.weight, file=Artifact.model_validate(file))


def _find_step(
    session: Session, tenant_id: str, model: ModelInfo, pointer: str, job_id: str, step: int, weight: float
) -> StackedAdapter:
    """A step's adapter, of a job in any state."""
    try:
        job = jobs.get_job(session, tenant_id, job_id)
    except NotFound as error:
        raise NotFound(error.detail, {_within(pointer, "job"): [error.detail]}) from None
    try:
        kept = step_adapters.get_step(session, job_id, step)
    except NotFound as error:
        raise NotFound(error.detail, {_within(pointer, "step"): [error.detail]}) from None
    if job.outline["model_sha256"] != model.sha256:
        detail = f"Job {job_id} trained on {_name_base(job.model_id, model)}."
        raise InvalidSpec(detail, {_within(pointer, "job"): [detail]})
    name = f"{job.outline['name']}, step {step}"
    file = Artifact.model_validate(kept.files[GENERATION_FORMAT])
    return StackedAdapter(id=job_id, step=step, name=name, weight=weight, file=file)


def _name_base(model_id: str, wanted: ModelInfo) -> str:
    """Of an adapter that does not fit ``wanted``."""
    if model_id == wanted.id:
        return f"{model_id} as it was then, which was replaced"
    return f"the base {model_id}, not for {wanted.id}"


async def wait_for_change(services: Services, caller: Caller, generation_id: str, seconds: float) -> Generation:
    """Once another image is drawn or it has ended, or when the time is up; at once if it has ended."""
    first = await services.database.run(read, caller, generation_id)
    if seconds <= 0:
        return first
    return await services.progress.wait_until(
        generation_id,
        partial(services.database.run, read, caller, generation_id),
        lambda row: row.status != Generation.CHECKING or len(row.images) != len(first.images),
        seconds,
    )


def read(session: Session, caller: Caller, generation_id: str) -> Generation:
    """Raises NotFound, Unauthenticated."""
    check_still_valid(session, caller)
    return generations.get_generation(session, caller.tenant_id, generation_id)


def find_image(session: Session, tenant_id: str, generation_id: str, index: int) -> StoredFile:
    """Raises NotFound."""
    return _find_file(session, tenant_id, generation_id, str(index), f"image {index}", f"{index:02d}")


def find_sheet(session: Session, tenant_id: str, generation_id: str, prompt: int) -> StoredFile:
    """Raises NotFound."""
    name = name_sheet(prompt)
    return _find_file(session, tenant_id, generation_id, name, f"sheet of prompt {prompt}", name)


def _find_file(session: Session, tenant_id: str, generation_id: str, key: str, described: str, name: str) -> StoredFile:
    image = generations.get_generation(session, tenant_id, generation_id).images.get(key)
    if image is None:
        raise NotFound(f"Generation {generation_id} has no {described}.")
    return StoredFile(image["key"], image["sha256"], image["size"], f"{generation_id}-{name}.png", PNG)


async def delete(services: Services, tenant_id: str, generation_id: str) -> None:
    """Raises NotFound."""
    await services.database.run(generations.delete_generation, tenant_id, generation_id)
    await remove_prefix(services.storage, generation_prefix(generation_id))
