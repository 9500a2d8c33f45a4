"""Checks whether each part responds."""

import asyncio
import logging
from collections.abc import Awaitable

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from app.operations.schemas import PartName, Readiness
from app.services import Services
from core.db.workers import is_migrated
from core.domain.errors import Unavailable
from core.storage import StorageError

CHECK_SECONDS = 5.0

logger = logging.getLogger(__name__)


async def check_readiness(services: Services) -> Readiness:
    checks: dict[PartName, Awaitable[str]] = {
        "database": check(check_database(services)),
        "broker": check(check_broker(services)),
        "storage": check(check_storage(services)),
    }
    answers = dict(zip(checks, await asyncio.gather(*checks.values()), strict=True))
    well = all(answer == "ok" for answer in answers.values())
    return Readiness(status="ready" if well else "unavailable", checks=answers)


async def check(part: Awaitable[str]) -> str:
    try:
        return await asyncio.wait_for(part, CHECK_SECONDS)
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:g} s"


async def check_database(services: Services) -> str:
    try:
        return "ok" if await services.database.run(is_migrated) else "not migrated"
    except Unavailable:
        return "no answer"
    except SQLAlchemyError as error:
        logger.warning("the database cannot be used: %s", error)
        return "not migrated"


async def check_broker(services: Services) -> str:
    try:
        await services.progress.ping()
    except (RedisError, OSError):
        return "no answer"
    return "ok"


async def check_storage(services: Services) -> str:
    try:
        await asyncio.to_thread(services.storage.check)
    except StorageError as error:
        logger.warning("storage cannot be used: %s", error)
        return "not usable"
    return "ok"
