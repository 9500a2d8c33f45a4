"""Reads the states, and tells the differences between one reading and the next.

A reader that connects first gets ``ready``: what it reads then, with later messages, misses nothing. After a lost
connection it reads again; no cursor is needed.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping

from sqlalchemy.orm import Session
from sse_starlette import ServerSentEvent

from app.activity.schemas import ActivityOut
from app.auth.service import Caller, check_still_valid
from app.services import Services
from core.db import activity, waiting
from core.domain.errors import Unauthenticated, Unavailable

STREAM_SECONDS = 30 * 60
"""Browsers then reconnect by themselves."""
PAUSE_SECONDS = 0.25
"""At least, between two readings: in a large service something changes all the time."""

States = Mapping[str, ActivityOut]


def read_states(session: Session, caller: Caller) -> States:
    """By id. Raises Unauthenticated."""
    check_still_valid(session, caller)
    places = waiting.find_places(session, caller.tenant_id)
    states = activity.list_states(session, caller.tenant_id)
    return {
        state.id: ActivityOut.of(state, places[state.id].number if state.id in places else None) for state in states
    }


async def stream_activity(services: Services, caller: Caller) -> AsyncIterator[ServerSentEvent]:
    """``ready``, then a message for each change, named after its resource. Ends with the caller's key or session, and
    after STREAM_SECONDS. It waits through an outage of the database."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + STREAM_SECONDS
    known: States | None = None
    with services.progress.listen_to_all() as listener:
        while clock() < deadline:
            try:
                found = await services.database.run(read_states, caller)
            except Unavailable:
                await listener.wait()
                continue
            except Unauthenticated:
                return
            if known is None:
                yield ServerSentEvent("{}", event="ready")
            else:
                for change in find_changes(known, found):
                    yield ServerSentEvent(change.model_dump_json(), event=change.resource)
            known = found
            await asyncio.sleep(PAUSE_SECONDS)
            await listener.wait()


def find_changes(before: States, after: States) -> Iterator[ActivityOut]:
    """A thing that only left the newest of its resource, because others came, was not deleted."""
    for thing in after.values():
        if before.get(thing.id) != thing:
            yield thing
    full = {name for name in activity.NUMEROUS if _count(after, name) >= activity.MAX_OF_EACH}
    oldest = {name: min(thing.id for thing in after.values() if thing.resource == name) for name in full}
    for thing in before.values():
        if thing.id not in after and thing.id > oldest.get(thing.resource, ""):
            yield thing.as_deleted()


def _count(states: States, resource: str) -> int:
    return sum(thing.resource == resource for thing in states.values())
