"""Prepares the database before the first request: the operator's key and the models on disk."""

import asyncio
import logging

from sqlalchemy.exc import SQLAlchemyError

from app.auth.service import add_admin_key
from app.models.folders import find_models
from app.models.service import register_all
from app.services import Services
from core.domain.errors import Unavailable
from core.model_folders import BUNDLED

RETRY_SECONDS = 2.0

logger = logging.getLogger(__name__)


async def prepare(services: Services) -> bool:
    """False if the database cannot be used yet. Raises ValueError for an invalid ATELIER_API_KEY."""
    folders = await asyncio.to_thread(find_models, BUNDLED, services.settings.models_path)
    try:
        await services.database.run(add_admin_key, services.settings)
        await services.database.run(register_all, folders)
    except (Unavailable, SQLAlchemyError) as error:
        logger.warning("the database cannot be used yet (is it migrated?): %s", error)
        return False
    return True


async def prepare_later(services: Services) -> None:
    """The API starts without its database, answers 503, and becomes ready with it."""
    while not await prepare(services):
        await asyncio.sleep(RETRY_SECONDS)
