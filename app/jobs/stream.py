"""A job's news as it happens: all of it, in order, nothing twice.

The database is the source; Redis only says when to look. So a reader that reconnects with its cursor misses nothing,
whichever process answers.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from sqlalchemy.orm import Session
from sse_starlette import ServerSentEvent

from app.auth.service import Caller, check_still_valid
from app.feed import News
from app.jobs.schemas import EventOut, JobOut
from app.services import Services
from core.db import job_outputs, jobs, waiting
from core.db.events import list_events
from core.db.tables import Job, JobEvent
from core.domain.errors import NotFound, Unauthenticated
from core.domain.events import FINAL_EVENTS
from core.domain.states import TERMINAL, JobStatus
from core.domain.waiting import Place

BATCH = 200
MAX_SEQ_DIGITS = 15
NOT_IN_PROGRESS = {"spec", "plan", "estimate", "result", "metadata", "urls"}
"""Fields that do not change while a job runs, and would be sent again at every step."""

C = TypeVar("C")


class Updates(Protocol[C]):
    """What is new of a job since a cursor."""

    @property
    def has_more(self) -> bool:
        """More can be read at once."""

    @property
    def has_ended(self) -> bool:
        """The job has ended, and these are the last."""

    def advance(self, cursor: C) -> C:
        """The cursor after these."""


U = TypeVar("U", bound=Updates[Any])


async def follow(
    services: Services,
    caller: Caller,
    job_id: str,
    read: Callable[[Session, Caller, str, C], U],
    cursor: C,
    *,
    seconds: float = math.inf,
) -> AsyncGenerator[U, None]:
    """Reads at every change. Ends with the job, when it is deleted, with the caller's key, or when the time is up.
    Raises Unavailable during an outage of the database."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    with services.progress.listen(job_id) as listener:
        while clock() < deadline:
            try:
                updates = await services.database.run(read, caller, job_id, cursor)
            except (NotFound, Unauthenticated):
                return
            yield updates
            cursor = updates.advance(cursor)
            if updates.has_ended:
                return
            if not updates.has_more:
                await listener.wait()


def resolve_cursor(session: Session, tenant_id: str, job_id: str, after: str | None) -> int:
    """The ``seq`` to continue after; ``after`` is a seq or an event's id. Raises NotFound, InvalidRequest."""
    jobs.get_job(session, tenant_id, job_id)
    if not after:
        return 0
    if after.isascii() and after.isdigit() and len(after) <= MAX_SEQ_DIGITS:
        return int(after)
    return job_outputs.find_seq(session, job_id, after)


def has_passed(session: Session, caller: Caller, job_id: str, after_seq: int) -> bool:
    """Whether the job has ended, and has no event after this one. Raises NotFound, Unauthenticated."""
    job, events = read_events(session, caller, job_id, after_seq, 1)
    return JobStatus(job.status) in TERMINAL and not events


@dataclass(frozen=True)
class JobUpdates:
    """``place``: a queued job's place in the queue. The cursor is the ``seq`` of an event."""

    job: Job
    events: Sequence[JobEvent]
    place: Place | None
    has_more: bool

    @property
    def has_ended(self) -> bool:
        if any(event.type in FINAL_EVENTS for event in self.events):
            return True
        return JobStatus(self.job.status) in TERMINAL and not self.has_more

    def advance(self, cursor: int) -> int:
        return self.events[-1].seq if self.events else cursor


def read_updates(session: Session, caller: Caller, job_id: str, after_seq: int, limit: int = BATCH) -> JobUpdates:
    """Raises NotFound, Unauthenticated."""
    job, events = read_events(session, caller, job_id, after_seq, limit)
    waits = JobStatus(job.status) is JobStatus.QUEUED
    place = waiting.find_places(session, caller.tenant_id).get(job_id) if waits else None
    return JobUpdates(job, events, place, has_more=len(events) == limit)


def stream_events(services: Services, caller: Caller, job_id: str, after_seq: int) -> AsyncGenerator[bytes, None]:
    """Every event, and the job's progress whenever it changed. Ends after the job's last event, when the job is
    deleted, or with the caller's key. During an outage of the database it waits."""

    async def read(cursor: int) -> News:
        return write_news(await services.database.run(read_updates, caller, job_id, cursor))

    return services.feeds.follow(caller, job_id, after_seq, read)


def write_news(updates: JobUpdates) -> News:
    """As it is sent to every reader."""
    job, place = updates.job, updates.place
    progress = JobOut.of(job, place).model_dump_json(exclude=NOT_IN_PROGRESS)
    return News(
        events=[(event.seq, _write_event(event)) for event in updates.events],
        progress=(job.progress, job.phase, place and place.number),
        message=ServerSentEvent(event="progress", data=progress).encode(),
        has_more=updates.has_more,
        has_ended=updates.has_ended,
    )


def _write_event(event: JobEvent) -> bytes:
    data = EventOut.of(event).model_dump_json()
    return ServerSentEvent(event=event.type, id=str(event.seq), data=data).encode()


async def wait_for_events(
    services: Services, caller: Caller, job_id: str, after_seq: int, *, seconds: float, limit: int
) -> Sequence[JobEvent]:
    """The events after ``after_seq``, oldest first: as soon as there is one, else none when the time is up; at once
    if the job has ended. Raises NotFound, Unauthenticated."""
    _, events = await services.progress.wait_until(
        job_id,
        partial(services.database.run, read_events, caller, job_id, after_seq, limit),
        lambda found: bool(found[1]) or JobStatus(found[0].status) in TERMINAL,
        seconds,
    )
    return events


def read_events(
    session: Session, caller: Caller, job_id: str, after_seq: int, limit: int
) -> tuple[Job, Sequence[JobEvent]]:
    """The job first: if it has ended by then, all its events exist. Raises NotFound, Unauthenticated."""
    check_still_valid(session, caller)
    job = jobs.get_job(session, caller.tenant_id, job_id)
    return job, list_events(session, job_id, after_seq=after_seq, limit=limit)
