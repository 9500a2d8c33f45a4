"""What a running API holds: made once at the start, closed at the end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from anyio import CapacityLimiter

from app.database import Database
from app.doorbell import CeleryDoorbell
from app.progress import ProgressHub
from core.queue import Doorbell
from core.settings import Settings
from core.storage import Storage, open_storage

MAX_UPLOADS = 32
"""Bodies that are stored at the same time. Each holds a thread for as long as its client sends; more wait."""


@dataclass(frozen=True)
class Services:
    settings: Settings
    database: Database
    storage: Storage
    doorbell: Doorbell
    progress: ProgressHub
    upload_slots: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(MAX_UPLOADS))


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Connects to nothing yet but a directory store. Raises StorageError when that cannot be used."""
    storage = await asyncio.to_thread(
        open_storage,
        settings.storage_location,
        s3_endpoint_url=settings.s3_endpoint_url,
        s3_public_endpoint_url=settings.s3_public_endpoint_url,
    )
    database, progress = Database(settings.database_url), ProgressHub(settings.redis_url)
    doorbell = CeleryDoorbell(settings.redis_url)
    progress.start()
    try:
        yield Services(settings, database, storage, doorbell, progress)
    finally:
        await asyncio.to_thread(doorbell.close)
        await progress.close()
        await database.close()
