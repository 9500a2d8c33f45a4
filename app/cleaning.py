"""Deletes stored files that no row names any more."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from core.domain.errors import Unavailable
from core.storage import Storage, StorageError, delete_others

logger = logging.getLogger(__name__)


async def remove_prefix(storage: Storage, prefix: str) -> None:
    """After the rows are gone; a failure here only costs space, and the steward collects the files later."""
    try:
        await asyncio.to_thread(storage.delete_prefix, prefix)
    except StorageError as error:
        logger.warning("%s was not deleted from storage: %s", prefix, error)


async def remove_others(storage: Storage, prefix: str, needed: frozenset[str]) -> None:
    """As ``remove_prefix``, but keeps what other rows still name."""
    try:
        await asyncio.to_thread(delete_others, storage, prefix, needed)
    except StorageError as error:
        logger.warning("not all of %s was deleted from storage: %s", prefix, error)


async def remove_keys(storage: Storage, keys: Iterable[str]) -> None:
    """As ``remove_prefix``."""
    for key in keys:
        try:
            await asyncio.to_thread(storage.delete, key)
        except StorageError as error:
            logger.warning("%s was not deleted from storage: %s", key, error)


@asynccontextmanager
async def removing_if_it_fails(storage: Storage, prefix: str, *, inserts: bool = False) -> AsyncIterator[None]:
    """Removes everything under ``prefix`` if the block fails; if the block ``inserts`` the row that names it, only when
    there is certainly no such row."""
    try:
        yield
    except BaseException as error:
        if not inserts or is_undone(error):
            await remove_prefix(storage, prefix)
        raise


def is_undone(error: BaseException) -> bool:
    """Whether a transaction that ended this way has certainly left nothing. If the request was cut off or the database
    did not respond, the row may exist; if it does not, the steward collects the files, as all that no row names."""
    return isinstance(error, Exception) and not isinstance(error, Unavailable)
