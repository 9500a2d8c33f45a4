"""Covers of adapters: copies of sample images and generated ones, so that they outlast what they were chosen from."""

import asyncio
from typing import Any

from sqlalchemy.orm import Session

from app.adapters.schemas import AdapterChange, GenerationCover, SampleCover
from app.cleaning import remove_keys
from app.files import PNG, StoredFile
from app.services import Services
from core.db import adapters, generations, jobs, quotas
from core.db.tables import Adapter
from core.domain.artifacts import Artifact, cover_key
from core.domain.counts import counted
from core.domain.errors import InvalidRequest, NotFound
from core.domain.ids import new_id
from core.storage.disposition import make_filename


async def change(services: Services, tenant_id: str, adapter_id: str, asked: AdapterChange) -> Adapter:
    """Raises NotFound, InvalidRequest, QuotaExceeded."""
    changes = asked.to_changes()
    if asked.cover is not None:
        limits = services.settings.default_limits
        source = await services.database.run(_find_source, tenant_id, adapter_id, asked.cover)
        await services.database.run(quotas.refuse_full_storage, tenant_id, limits)
        changes["cover"] = await asyncio.to_thread(_copy, services, adapter_id, source)
    adapter, replaced = await services.database.run(_write, tenant_id, adapter_id, changes)
    await remove_keys(services.storage, replaced)
    return adapter


def _find_source(
    session: Session, tenant_id: str, adapter_id: str, cover: SampleCover | GenerationCover
) -> dict[str, Any]:
    adapter = adapters.get_adapter(session, tenant_id, adapter_id)
    try:
        if isinstance(cover, GenerationCover):
            found = generations.get_generation(session, tenant_id, cover.generation).images
            images = [found[key] for key in sorted(filter(str.isdigit, found), key=int)]  # without its sheets
        elif adapter.job_id is None:
            raise InvalidRequest(
                f"Adapter {adapter_id} was not made by a job and has no samples: choose an image of a generation.",
                {"/cover/step": ["is for adapters of jobs"]},
            )
        else:
            images = jobs.get_sample(session, adapter.job_id, cover.step).images
    except NotFound as error:
        place = "/cover/generation" if isinstance(cover, GenerationCover) else "/cover/step"
        raise NotFound(error.detail, {place: [error.detail]}) from None
    if cover.index >= len(images):
        detail = f"There {'is' if len(images) == 1 else 'are'} {counted(len(images), 'image')}, counted from 0."
        raise NotFound(detail, {"/cover/index": [detail]})
    return dict(images[cover.index])


def _copy(services: Services, adapter_id: str, source: dict[str, Any]) -> dict[str, Any]:
    content = services.storage.read(source["key"])
    stored = services.storage.put(cover_key(adapter_id, new_id("cov")), content, content_type=PNG)
    return Artifact(key=stored.key, sha256=stored.sha256, size=stored.size).model_dump()


def _write(session: Session, tenant_id: str, adapter_id: str, changes: dict[str, Any]) -> tuple[Adapter, list[str]]:
    """The changed adapter, and the keys that it does not name any more."""
    before = adapters.get_adapter(session, tenant_id, adapter_id, lock=True).cover
    adapter = adapters.change_adapter(session, tenant_id, adapter_id, changes)
    is_replaced = before is not None and (adapter.cover or {}).get("key") != before["key"]
    return adapter, [before["key"]] if before is not None and is_replaced else []


def find_cover(session: Session, tenant_id: str, adapter_id: str) -> StoredFile:
    """Raises NotFound."""
    return cover_of(adapters.get_adapter(session, tenant_id, adapter_id))


def cover_of(adapter: Adapter) -> StoredFile:
    """Raises NotFound."""
    cover = adapter.cover
    if cover is None:
        raise NotFound(f"Adapter {adapter.id} has no cover.")
    return StoredFile(cover["key"], cover["sha256"], cover["size"], make_filename(adapter.name, ".png"), PNG)
