"""Revisions: a new dataset from a ready one and edits. Without crops no image is opened."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.datasets.schemas import RevisionRequest
from app.datasets.service import DatasetWithTotals, read_dataset
from app.idempotency import Once
from app.services import Services
from core.db import datasets, quotas
from core.db.datasets import NewRevision, Totals
from core.domain.dataset import DatasetManifest
from core.domain.errors import WrongState
from core.domain.ids import new_id
from core.domain.revision import revise as apply_edits
from core.domain.states import DatasetStatus
from core.settings import Settings


@dataclass(frozen=True)
class Source:
    """A ready dataset that a revision takes images of."""

    name: str | None
    manifest: DatasetManifest


async def revise(
    services: Services, once: Once, tenant_id: str, dataset_id: str, request: RevisionRequest
) -> DatasetWithTotals:
    """Raises NotFound, WrongState for a dataset that is not ready, InvalidRequest, DatasetRejected, QuotaExceeded,
    IdempotencyMismatch."""
    if (original := await once.find(request, read_dataset)) is not None:
        return original
    ids = {dataset_id, *(inclusion.dataset for inclusion in request.include)}
    sources = await services.database.run(read_sources, tenant_id, ids)
    manifests = {source_id: source.manifest for source_id, source in sources.items()}
    # Thousands of images take seconds, which the event loop does not have.
    new = await asyncio.to_thread(make_revision, dataset_id, request, manifests, services.settings.max_images)
    name = request.name or sources[dataset_id].name
    return await once.create(
        request, read_dataset, insert_revision, services.settings, tenant_id, dataset_id, name, new, sorted(ids)
    )


def make_revision(
    parent_id: str, request: RevisionRequest, manifests: Mapping[str, DatasetManifest], max_images: int
) -> NewRevision:
    """Raises InvalidRequest, DatasetRejected."""
    return NewRevision.of(apply_edits(parent_id, manifests[parent_id], request, manifests, max_images=max_images))


def read_sources(session: Session, tenant_id: str, dataset_ids: Iterable[str]) -> dict[str, Source]:
    """Raises NotFound, WrongState."""
    return {dataset_id: _read_source(session, tenant_id, dataset_id) for dataset_id in sorted(dataset_ids)}


def _read_source(session: Session, tenant_id: str, dataset_id: str) -> Source:
    dataset = datasets.get_dataset(session, tenant_id, dataset_id, whole=True)
    if dataset.status != DatasetStatus.READY:
        raise WrongState(f"Dataset {dataset_id} is {dataset.status}: only the images of a ready dataset can be used.")
    return Source(dataset.name, DatasetManifest.model_validate(dataset.manifest))


def insert_revision(
    session: Session,
    settings: Settings,
    tenant_id: str,
    parent_id: str,
    name: str | None,
    new: NewRevision,
    source_ids: Iterable[str],
) -> DatasetWithTotals:
    """A ready dataset never changes, but it may have been deleted since it was read. Raises NotFound, QuotaExceeded."""
    limits = quotas.lock_limits(session, tenant_id, settings.default_limits)
    for source_id in source_ids:  # in one order everywhere: two revisions of two datasets must not wait for each other
        datasets.get_dataset(session, tenant_id, source_id, lock=True)
    dataset = datasets.insert_revision(
        session, dataset_id=new_id("ds"), tenant_id=tenant_id, name=name, parent_id=parent_id, new=new
    )
    quotas.check_storage(session, tenant_id, limits)
    return DatasetWithTotals(dataset, Totals(0, 0))
