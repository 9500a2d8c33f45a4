"""Imports adapters, finds their files, and deletes them."""

from collections.abc import AsyncIterator

from sqlalchemy.orm import Session

from app.adapters.receiving import SUFFIX, ReceivedAdapter, receive_adapter
from app.cleaning import remove_prefix, removing_if_it_fails
from app.files import SAFETENSORS, StoredFile
from app.services import Services
from core.db import adapters, models, quotas
from core.db.tables import Adapter
from core.domain.artifacts import AdapterFormat, adapter_prefix
from core.domain.errors import NotFound, WrongState
from core.domain.ids import new_id
from core.domain.states import AdapterStatus
from core.settings import Settings
from core.storage.disposition import make_filename

MAX_NAME_CHARS = 100


async def import_file(services: Services, tenant_id: str, body: AsyncIterator[bytes], content_type: str) -> Adapter:
    """Stores a file that a worker will check. A failed import leaves nothing behind.

    Raises InvalidRequest, UnsupportedWeights, WeightsRejected, TooLarge, QuotaExceeded; for the model NotFound or
    WrongState.
    """
    await services.database.run(quotas.refuse_full_storage, tenant_id, services.settings.default_limits)
    adapter_id = new_id("ad")
    prefix = adapter_prefix(adapter_id)
    async with removing_if_it_fails(services.storage, prefix):
        received = await receive_adapter(services, adapter_id, body, content_type)
    async with removing_if_it_fails(services.storage, prefix, inserts=True):
        return await services.database.run(insert, services.settings, tenant_id, adapter_id, received)


def insert(session: Session, settings: Settings, tenant_id: str, adapter_id: str, received: ReceivedAdapter) -> Adapter:
    limits, asked = quotas.lock_limits(session, tenant_id, settings.default_limits), received.asked
    try:
        model = models.read_card(models.get_model(session, asked.model))
    except (NotFound, WrongState) as error:
        raise type(error)(error.detail, {"/model": [error.detail]}) from None
    adapter = adapters.insert_import(
        session,
        adapter_id=adapter_id,
        tenant_id=tenant_id,
        model=model,
        upload=received.upload,
        name=asked.name or name_from(received.filename),
        trigger=asked.trigger or "",
        tags=asked.tags,
    )
    quotas.check_storage(session, tenant_id, limits)
    return adapter


def name_from(filename: str) -> str:
    stem = filename[: -len(SUFFIX)]
    return "".join(char for char in stem if char.isprintable()).strip()[:MAX_NAME_CHARS] or "adapter"


def find_file(session: Session, tenant_id: str, adapter_id: str, adapter_format: AdapterFormat) -> StoredFile:
    """Raises NotFound, and WrongState before it is ready."""
    return file_of(adapters.get_adapter(session, tenant_id, adapter_id), adapter_format)


def file_of(adapter: Adapter, adapter_format: AdapterFormat) -> StoredFile:
    """Raises NotFound, and WrongState before it is ready."""
    if adapter.status != AdapterStatus.READY:
        raise WrongState(f"Adapter {adapter.id} is {adapter.status}: its file is available when it is ready.")
    file = adapter.files.get(adapter_format)
    if file is None:
        raise NotFound(f"Adapter {adapter.id} is not available in {adapter_format}'s format; use format=kohya.")
    suffix = SUFFIX if adapter_format == "kohya" else f".{adapter_format}{SUFFIX}"
    return StoredFile(file["key"], file["sha256"], file["size"], make_filename(adapter.name, suffix), SAFETENSORS)


async def delete(services: Services, tenant_id: str, adapter_id: str) -> None:
    """Raises NotFound, and WrongState for an adapter from a job, or while a job starts from it."""
    await services.database.run(adapters.delete_adapter, tenant_id, adapter_id)
    await remove_prefix(services.storage, adapter_prefix(adapter_id))
