"""Uploads by signed addresses, and finalizing: every announced file must have arrived."""

import asyncio
import base64
import uuid
from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.datasets.names import check_apart, check_loose_kind, check_name, find_collision, kind_of, refuse_kind
from app.datasets.receiving import max_bytes_of
from app.datasets.schemas import AnnouncedFile, UploadOut
from app.datasets.service import DatasetWithTotals, check_totals
from app.services import Services
from core.db import audit, datasets, quotas
from core.db.datasets import NewFile
from core.db.tables import DatasetFile
from core.domain.artifacts import dataset_prefix, upload_key
from core.domain.audit import Action
from core.domain.errors import DatasetRejected, InvalidRequest, TooLarge, WrongState
from core.domain.image_formats import ACCEPTED
from core.domain.states import DatasetStatus
from core.settings import Settings
from core.storage import DEFAULT_CONTENT_TYPE, MAX_UPLOAD_URL_SECONDS, PresignedUpload, Storage

MAX_NAMED = 5


async def announce(
    services: Services, tenant_id: str, dataset_id: str, files: Sequence[AnnouncedFile]
) -> list[UploadOut]:
    """Addresses for exactly these files. Raises WrongState if clients cannot reach the store."""
    await services.database.run(datasets.lock_open_dataset, tenant_id, dataset_id)
    check_announced(services.settings, files)
    new = [_new_file(dataset_id, file) for file in files]
    addresses = await asyncio.to_thread(_sign_all, services.storage, new)
    await services.database.run(add_files, services.settings, tenant_id, dataset_id, new)
    return [
        UploadOut(filename=file.filename, method=a.method, url=a.url, headers=dict(a.headers), expires_at=a.expires_at)
        for file, a in zip(new, addresses, strict=True)
    ]


def check_announced(settings: Settings, files: Sequence[AnnouncedFile]) -> None:
    """Raises InvalidRequest, UnsupportedMedia or TooLarge."""
    for file in files:
        check_loose_kind(check_name(file.filename))
        if kind_of(file.filename) == "other":  # its content is not checked before the set is finalized
            raise refuse_kind(file.filename)
        if file.size > max_bytes_of(kind_of(file.filename), settings):
            raise TooLarge(f"{file.filename} is larger than {settings.max_file_bytes:,} bytes.")
    if collision := find_collision(file.filename for file in files):
        raise InvalidRequest(
            f"{collision[0]} and {collision[1]} are the same name on many systems. Rename one of them."
        )


def _new_file(dataset_id: str, file: AnnouncedFile) -> NewFile:
    file_id = uuid.uuid4().hex
    return NewFile(file_id, file.filename, upload_key(dataset_id, file_id), file.sha256, file.size)


def _sign_all(storage: Storage, files: Sequence[NewFile]) -> list[PresignedUpload]:
    return [_sign(storage, file) for file in files]


def _sign(storage: Storage, file: NewFile) -> PresignedUpload:
    address = storage.upload_url(
        file.key,
        size=file.size,
        sha256_base64=base64.b64encode(bytes.fromhex(file.sha256)).decode(),
        content_type=DEFAULT_CONTENT_TYPE,
        expires_seconds=MAX_UPLOAD_URL_SECONDS,
    )
    if address is None:
        raise WrongState(
            "This service keeps its files in a directory, which clients cannot reach. "
            "Send each file by PUT /datasets/{id}/files/{filename} instead."
        )
    return address


def add_files(session: Session, settings: Settings, tenant_id: str, dataset_id: str, files: Sequence[NewFile]) -> None:
    """The object of a replaced file stays: its own upload may be under way. It is deleted with the dataset."""
    limits = quotas.lock_limits(session, tenant_id, settings.default_limits)
    datasets.lock_open_dataset(session, tenant_id, dataset_id)
    check_apart([file.filename for file in files], datasets.list_filenames(session, dataset_id))
    for file in files:
        datasets.put_file(session, dataset_id, file)
    check_totals(settings, datasets.total_files(session, dataset_id))
    quotas.check_storage(session, tenant_id, limits)
    audit.record(session, Action.DATASET_FILLED, dataset_id)


async def finalize(services: Services, tenant_id: str, dataset_id: str) -> DatasetWithTotals:
    """Finalizes an open dataset and hands it to the validating worker.

    Raises NotFound, WrongState, DatasetRejected without an image, InvalidRequest while announced files are missing.
    """
    files = await services.database.run(list_open_files, tenant_id, dataset_id)
    check_contents(files)
    await check_arrived(services.storage, dataset_id, files)
    return await services.database.run(close, tenant_id, dataset_id, {file.id for file in files})


def list_open_files(session: Session, tenant_id: str, dataset_id: str) -> Sequence[DatasetFile]:
    datasets.lock_open_dataset(session, tenant_id, dataset_id)
    return datasets.list_files(session, dataset_id)


def check_contents(files: Sequence[DatasetFile]) -> None:
    if not files:
        raise DatasetRejected("The dataset has no file yet: add images before you finalize it.")
    if all(kind_of(file.filename) == "caption" for file in files):
        raise DatasetRejected(f"The dataset has no image yet, only captions: add {ACCEPTED} images.")


async def check_arrived(storage: Storage, dataset_id: str, files: Sequence[DatasetFile]) -> None:
    """Signed addresses accept only the announced bytes, so a file of the right size is complete."""
    sizes = await asyncio.to_thread(_list_sizes, storage, dataset_id)
    missing = [file.filename for file in files if sizes.get(file.key) != file.size]
    if missing:
        named = ", ".join(missing[:MAX_NAMED]) + (f" and {len(missing) - MAX_NAMED} more" * (len(missing) > MAX_NAMED))
        raise InvalidRequest(
            f"Announced, but not uploaded: {named}. Upload them, with a new address if the old one has expired.",
            {"/files": [f"{name} was not uploaded" for name in missing]},
        )


def _list_sizes(storage: Storage, dataset_id: str) -> dict[str, int]:
    return {stat.key: stat.size for stat in storage.list(dataset_prefix(dataset_id))}


def close(session: Session, tenant_id: str, dataset_id: str, checked: set[str]) -> DatasetWithTotals:
    dataset = datasets.lock_open_dataset(session, tenant_id, dataset_id)
    if {file.id for file in datasets.list_files(session, dataset_id)} != checked:
        raise WrongState(f"Files were added to {dataset_id} at this moment; finalize it again.")
    dataset.status = DatasetStatus.VALIDATING
    audit.record(session, Action.DATASET_FINALIZED, dataset_id)
    return DatasetWithTotals(dataset, datasets.total_files(session, dataset_id))
