"""Fills and finalizes datasets. Rows name a file only after its bytes are in storage."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.cleaning import is_undone, remove_keys, remove_others, removing_if_it_fails
from app.datasets.names import check_apart, check_loose_kind, check_name
from app.datasets.receiving import Form, check_form, max_files, receive_file, receive_form
from app.services import Services
from core.db import audit, datasets, models, quotas, references
from core.db.datasets import NewFile, Totals
from core.db.tables import Dataset, DatasetFile
from core.domain.artifacts import Artifact, dataset_prefix
from core.domain.audit import Action
from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.errors import NotFound, TooLarge, Unavailable, UrlForbidden, WrongState
from core.domain.ids import new_id
from core.domain.model import ModelInfo
from core.domain.receivers import AllowList, Receiver
from core.domain.states import DatasetStatus
from core.settings import Settings


@dataclass(frozen=True)
class DatasetWithTotals:
    dataset: Dataset
    totals: Totals

    @property
    def id(self) -> str:
        return self.dataset.id


def open_dataset(session: Session, tenant_id: str, name: str | None) -> DatasetWithTotals:
    dataset = datasets.insert_dataset(
        session, dataset_id=new_id("ds"), tenant_id=tenant_id, name=name, status=DatasetStatus.OPEN
    )
    return DatasetWithTotals(dataset, Totals(0, 0))


def insert_sources(
    session: Session, settings: Settings, tenant_id: str, name: str | None, urls: Sequence[str]
) -> DatasetWithTotals:
    """To be fetched by a worker. Raises UrlForbidden, QuotaExceeded."""
    refuse_forbidden(settings.fetch_allow, urls)
    limits = quotas.lock_limits(session, tenant_id, settings.default_limits)
    quotas.check_room(session, tenant_id, limits)
    dataset = datasets.insert_dataset(
        session, dataset_id=new_id("ds"), tenant_id=tenant_id, name=name, status=DatasetStatus.VALIDATING
    )
    dataset.sources = list(dict.fromkeys(urls))
    session.flush()
    return DatasetWithTotals(dataset, Totals(0, 0))


def refuse_forbidden(allow: AllowList, urls: Sequence[str]) -> None:
    """As far as possible without resolving a name; the worker checks the rest. Raises UrlForbidden."""
    refusals = {
        f"/urls/{number}": refusal
        for number, url in enumerate(urls)
        if (refusal := allow.find_refusal_unresolved(Receiver.parse(url))) is not None
    }
    if refusals:
        pointer, refusal = next(iter(refusals.items()))
        raise UrlForbidden(
            f"{pointer}: {refusal}. Name a file on the public internet, or ask the operator to admit this server "
            "(ATELIER_FETCH_ALLOW).",
            {place: [f"{each}, not called"] for place, each in refusals.items()},
        )


async def upload(
    services: Services, tenant_id: str, body: AsyncIterator[bytes], content_type: str
) -> DatasetWithTotals:
    """One request, one dataset, to be validated. A failed upload leaves nothing behind.

    Raises InvalidRequest, TooLarge, QuotaExceeded, or the files' faults if none of them is usable.
    """
    await services.database.run(quotas.refuse_full_storage, tenant_id, services.settings.default_limits)
    dataset_id = new_id("ds")
    prefix = dataset_prefix(dataset_id)
    async with removing_if_it_fails(services.storage, prefix):
        form = await receive_form(services, dataset_id, body, content_type)
        check_form(form.files)
    async with removing_if_it_fails(services.storage, prefix, inserts=True):
        return await services.database.run(insert_upload, services.settings, tenant_id, dataset_id, form)


def insert_upload(
    session: Session, settings: Settings, tenant_id: str, dataset_id: str, form: Form
) -> DatasetWithTotals:
    limits = quotas.lock_limits(session, tenant_id, settings.default_limits)
    dataset = datasets.insert_dataset(
        session, dataset_id=dataset_id, tenant_id=tenant_id, name=form.name, status=DatasetStatus.VALIDATING
    )
    datasets.insert_files(session, dataset_id, [received.file for received in form.files])
    quotas.check_storage(session, tenant_id, limits)
    return DatasetWithTotals(dataset, datasets.total_files(session, dataset_id))


async def put_file(
    services: Services, tenant_id: str, dataset_id: str, filename: str, body: AsyncIterator[bytes]
) -> DatasetFile:
    """Adds one file to an open dataset, or replaces the file of that name.

    Raises NotFound, WrongState, InvalidRequest, UnsupportedMedia, TooLarge, QuotaExceeded, or the file's fault.
    """
    check_loose_kind(check_name(filename))
    await services.database.run(datasets.lock_open_dataset, tenant_id, dataset_id)
    await services.database.run(quotas.refuse_full_storage, tenant_id, services.settings.default_limits)
    received = await receive_file(services, dataset_id, filename, body)
    try:
        if received.fault is not None:
            raise received.fault
        file, replaced = await services.database.run(add_file, services.settings, tenant_id, dataset_id, received.file)
    except BaseException as error:
        if is_undone(error):
            await remove_keys(services.storage, [received.file.key])
        raise
    await remove_keys(services.storage, [replaced] if replaced else [])
    return file


def add_file(
    session: Session, settings: Settings, tenant_id: str, dataset_id: str, new: NewFile
) -> tuple[DatasetFile, str | None]:
    """The file's row, and the storage key of the file that it replaced."""
    limits = quotas.lock_limits(session, tenant_id, settings.default_limits)
    datasets.lock_open_dataset(session, tenant_id, dataset_id)
    check_apart([new.filename], datasets.list_filenames(session, dataset_id))
    replaced = datasets.put_file(session, dataset_id, new)
    check_totals(settings, datasets.total_files(session, dataset_id))
    quotas.check_storage(session, tenant_id, limits)
    audit.record(session, Action.DATASET_FILLED, dataset_id)
    return datasets.get_file(session, new.id), replaced


def check_totals(settings: Settings, totals: Totals) -> None:
    """Raises TooLarge."""
    if totals.num_files > max_files(settings):
        raise TooLarge(f"A set may have at most {max_files(settings):,} files.")
    if totals.num_bytes > settings.max_upload_bytes:
        raise TooLarge(f"A set may have at most {settings.max_upload_bytes:,} bytes.")


def read_dataset(session: Session, tenant_id: str, dataset_id: str) -> DatasetWithTotals:
    dataset = datasets.get_dataset(session, tenant_id, dataset_id)
    return DatasetWithTotals(dataset, datasets.total_files(session, dataset_id))


def list_datasets(
    session: Session, tenant_id: str, *, status: DatasetStatus | None, parent: str | None, after: str | None, limit: int
) -> tuple[list[DatasetWithTotals], bool]:
    rows, has_more = datasets.list_datasets(session, tenant_id, status=status, parent=parent, after=after, limit=limit)
    totals = datasets.total_files_of(session, [row.id for row in rows])
    return [DatasetWithTotals(row, totals.get(row.id, Totals(0, 0))) for row in rows], has_more


def read_images(session: Session, tenant_id: str, dataset_id: str) -> Sequence[ManifestImage]:
    """Raises NotFound, and WrongState before the dataset is ready."""
    dataset = datasets.get_dataset(session, tenant_id, dataset_id, whole=True)
    if dataset.status != DatasetStatus.READY:
        raise WrongState(f"Dataset {dataset_id} is {dataset.status}: its images are listed when it is ready.")
    return DatasetManifest.model_validate(dataset.manifest).images


def read_framed_images(
    session: Session, tenant_id: str, dataset_id: str, model_id: str | None
) -> tuple[Sequence[ManifestImage], ModelInfo | None]:
    """With the base that they are to be framed for. Raises NotFound, WrongState."""
    base = models.read_card(models.get_model(session, model_id)) if model_id else None
    return read_images(session, tenant_id, dataset_id), base


def page_images(images: Sequence[ManifestImage], after: str | None, limit: int) -> tuple[Sequence[ManifestImage], bool]:
    """``after`` is an image's name. Raises NotFound if it does not exist."""
    start = 0
    if after is not None:
        names = [image.name for image in images]
        if after not in names:
            raise NotFound(f"This dataset has no image {after[:80]} to continue after.")
        start = names.index(after) + 1
    return images[start : start + limit], start + limit < len(images)


def find_image(session: Session, tenant_id: str, dataset_id: str, sha256: str) -> ManifestImage:
    for image in read_images(session, tenant_id, dataset_id):
        if image.sha256 == sha256:
            return image
    raise NotFound(f"Dataset {dataset_id} has no such image; GET /datasets/{dataset_id}/images lists them.")


def get_thumbnail(image: ManifestImage) -> Artifact:
    """Raises NotFound."""
    if image.thumbnail is None:
        raise NotFound(
            f"{image.name} has no thumbnail: use the image itself, as thumbnail_url in the list of images does."
        )
    return image.thumbnail


async def delete(services: Services, tenant_id: str, dataset_id: str) -> None:
    """Raises NotFound, and WrongState while a job uses it."""
    for folder in await services.database.run(datasets.delete_dataset, tenant_id, dataset_id):
        await _clean_folder(services, folder)


async def _clean_folder(services: Services, dataset_id: str) -> None:
    """Keeps the images that revisions share. The rows are gone: a failure here is left to the steward."""
    with contextlib.suppress(Unavailable):
        needed = await services.database.run(references.list_dataset_references, dataset_id)
        if needed is not None:
            await remove_others(services.storage, dataset_prefix(dataset_id), needed)
