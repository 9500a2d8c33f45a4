"""The resources of a running API: opened once at startup, closed at the end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from anyio import CapacityLimiter

from app.database import Database
from app.feed import Feeds
from app.limits.buckets import Buckets
from app.limits.uploads import UploadLimiter
from app.progress import ProgressHub
from core.doorbell import CeleryDoorbell
from core.queue import Doorbell
from core.settings import Settings
from core.storage import Storage, open_store_of

MAX_UPLOADS = 32
"""Bodies that are stored at the same time. Each holds a thread while its client sends; further ones wait."""


@dataclass(frozen=True)
class Services:
    settings: Settings
    database: Database
    storage: Storage
    doorbell: Doorbell
    progress: ProgressHub
    feeds: Feeds
    buckets: Buckets
    upload_places: UploadLimiter
    upload_slots: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(MAX_UPLOADS))


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Connects to nothing yet, except a directory store. Raises StorageError if that is unusable."""
    storage = await asyncio.to_thread(open_store_of, settings)
    database, progress = Database(settings.database_url), ProgressHub(settings.redis_url)
    doorbell = CeleryDoorbell(settings.redis_url)
    buckets, places = Buckets(settings.redis_url), UploadLimiter(settings.uploads_per_tenant)
    progress.start()
    try:
        yield Services(settings, database, storage, doorbell, progress, Feeds(progress), buckets, places)
    finally:
        await asyncio.to_thread(doorbell.close)
        await progress.close()
        await buckets.close()
        await database.close()
