"""A generation as it is drawn, by server-sent events."""

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import ServerSentEvent

from app.auth.service import Caller
from app.generations import service
from app.generations.schemas import GenerationOut
from app.services import Services
from core.db.tables import Generation
from core.domain.errors import NotFound, Unauthenticated, Unavailable

STREAM_SECONDS = 30 * 60
"""Clients then connect again, and get the present state first."""


async def stream_generation(services: Services, caller: Caller, generation_id: str) -> AsyncIterator[ServerSentEvent]:
    """Its present state, then a message for each change, until it has ended or is deleted. It waits through an outage
    of the database."""
    clock = asyncio.get_running_loop().time
    deadline, known = clock() + STREAM_SECONDS, ""
    with services.progress.listen(generation_id) as listener:
        while clock() < deadline:
            try:
                row = await services.database.run(service.read, caller, generation_id)
            except Unavailable:
                await listener.wait(deadline - clock())
                continue
            except (NotFound, Unauthenticated):
                return
            shown = GenerationOut.of(row).model_dump_json()
            if shown != known:
                yield ServerSentEvent(shown, event="generation")
                known = shown
            if row.status != Generation.CHECKING:
                return
            await listener.wait(deadline - clock())
