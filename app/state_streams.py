"""The states of one captioning or generation, by server-sent events."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from pydantic import BaseModel
from sse_starlette import ServerSentEvent
from starlette.responses import Response

from app.media import end_events, send_events
from app.progress import ProgressHub
from core.db.tables import Checked
from core.domain.errors import NotFound, Unauthenticated, Unavailable

STREAM_SECONDS = 30 * 60
"""Clients then connect again, and continue after the last state that they know."""
ID_CHARS = 16


Row = TypeVar("Row", bound=Checked)


def write_example(event: str, state: object) -> str:
    """For the OpenAPI document."""
    return f"event: {event}\nid: 9f86d081884c7d65\ndata: {json.dumps(state)}\n\n"


async def send_states(
    progress: ProgressHub,
    row_id: str,
    read: Callable[[], Awaitable[Row]],
    show: Callable[[Row], BaseModel],
    event: str,
    last_event_id: str | None,
) -> Response:
    """The present state, unless it is the one with ``last_event_id``, then a message for each change, until the row has
    ended or is deleted, or the caller's key is. It waits through an outage of the database. Raises as ``read``."""
    row = await read()
    if row.status != row.CHECKING and _write(row, show)[1] == last_event_id:
        return end_events()
    return send_events(_stream_states(progress, row_id, read, show, event, last_event_id))


async def _stream_states(
    progress: ProgressHub,
    row_id: str,
    read: Callable[[], Awaitable[Row]],
    show: Callable[[Row], BaseModel],
    event: str,
    last_event_id: str | None,
) -> AsyncIterator[ServerSentEvent]:
    clock = asyncio.get_running_loop().time
    deadline, known = clock() + STREAM_SECONDS, last_event_id
    with progress.listen(row_id) as listener:
        while clock() < deadline:
            try:
                row = await read()
            except Unavailable:
                await listener.wait(deadline - clock())
                continue
            except (NotFound, Unauthenticated):
                return
            shown, state_id = _write(row, show)
            if state_id != known:
                yield ServerSentEvent(shown, event=event, id=state_id)
                known = state_id
            if row.status != row.CHECKING:
                return
            await listener.wait(deadline - clock())


def _write(row: Row, show: Callable[[Row], BaseModel]) -> tuple[str, str]:
    """The state as it is sent, and its id."""
    shown = show(row).model_dump_json()
    return shown, hashlib.sha256(shown.encode()).hexdigest()[:ID_CHARS]
