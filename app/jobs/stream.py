"""A job's events as they happen: all of them, in order, none twice.

The database is the source; Redis only says when to look. So a reader that reconnects with ``Last-Event-ID`` misses
nothing, whichever process answers.
"""

import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session
from sse_starlette import ServerSentEvent

from app.auth.service import Caller, check_still_valid
from app.jobs.schemas import EventOut, JobOut
from app.services import Services
from core.db import job_outputs, jobs, waiting
from core.db.events import list_events
from core.db.tables import Job, JobEvent
from core.domain.errors import NotFound, Unauthenticated, Unavailable
from core.domain.events import FINAL_EVENTS
from core.domain.states import TERMINAL, JobStatus
from core.domain.waiting import Place

BATCH = 200
MAX_SEQ_DIGITS = 15
NOT_IN_PROGRESS = {"spec", "plan", "estimate", "result", "metadata", "urls"}
"""Fields that do not change while a job runs, and would be sent again at every step."""


@dataclass(frozen=True)
class JobUpdates:
    job: Job
    events: Sequence[JobEvent]
    place: Place | None


def resolve_cursor(session: Session, tenant_id: str, job_id: str, after: str | None) -> int:
    """The ``seq`` to continue after; ``after`` is a seq or an event's id. Raises NotFound, InvalidRequest."""
    jobs.get_job(session, tenant_id, job_id)
    if not after:
        return 0
    if after.isascii() and after.isdigit() and len(after) <= MAX_SEQ_DIGITS:
        return int(after)
    return job_outputs.find_seq(session, job_id, after)


def read_updates(session: Session, caller: Caller, job_id: str, after_seq: int) -> JobUpdates:
    """The job first: if it has ended by then, all its events exist. Raises NotFound, Unauthenticated."""
    check_still_valid(session, caller)
    job = jobs.get_job(session, caller.tenant_id, job_id)
    waits = JobStatus(job.status) is JobStatus.QUEUED
    place = waiting.find_places(session, caller.tenant_id).get(job_id) if waits else None
    return JobUpdates(job, list_events(session, job_id, after_seq=after_seq, limit=BATCH), place)


async def follow(services: Services, caller: Caller, job_id: str, after_seq: int) -> AsyncIterator[ServerSentEvent]:
    """Ends after the job's last event, when the job is deleted, or with the caller's key. Survives an outage of the
    database."""
    shown: str | None = None
    with services.progress.listen(job_id) as listener:
        while True:
            try:
                updates = await services.database.run(read_updates, caller, job_id, after_seq)
            except Unavailable:
                await listener.wait()
                continue
            except (NotFound, Unauthenticated):
                return
            for event in updates.events:
                after_seq = event.seq
                yield _message_of(event)
            if _has_ended(updates):
                return
            if (
                progress := json.dumps(
                    [updates.job.progress, updates.job.phase, updates.place and updates.place.number]
                )
            ) != shown:
                shown = progress
                data = JobOut.of(updates.job, updates.place).model_dump_json(exclude=NOT_IN_PROGRESS)
                yield ServerSentEvent(event="progress", data=data)
            if len(updates.events) < BATCH:
                await listener.wait()


async def wait_for_events(
    services: Services, caller: Caller, job_id: str, after_seq: int, *, seconds: float, limit: int
) -> Sequence[JobEvent]:
    """The events after ``after_seq``, oldest first: as soon as there is one, else none when the time is up; at once
    if the job has ended. Raises NotFound, Unauthenticated."""
    deadline = time.monotonic() + seconds
    with services.progress.listen(job_id) as listener:
        while True:
            job, events = await services.database.run(read_events, caller, job_id, after_seq, limit)
            left = deadline - time.monotonic()
            if events or left <= 0 or JobStatus(job.status) in TERMINAL:
                return events
            await listener.wait(left)


def read_events(
    session: Session, caller: Caller, job_id: str, after_seq: int, limit: int
) -> tuple[Job, Sequence[JobEvent]]:
    """The job first, as in ``read_updates``. Raises NotFound, Unauthenticated."""
    check_still_valid(session, caller)
    job = jobs.get_job(session, caller.tenant_id, job_id)
    return job, list_events(session, job_id, after_seq=after_seq, limit=limit)


def _message_of(event: JobEvent) -> ServerSentEvent:
    return ServerSentEvent(event=event.type, id=str(event.seq), data=EventOut.of(event).model_dump_json())


def _has_ended(updates: JobUpdates) -> bool:
    if any(event.type in FINAL_EVENTS for event in updates.events):
        return True
    return JobStatus(updates.job.status) in TERMINAL and len(updates.events) < BATCH
