"""A job's page as it changes: one stream of server-sent events with everything new since a cursor.

The cursor, ``<event seq>.<metric step>.<sample step>``, is each message's id; a browser that reconnects with it
misses nothing and gets nothing twice.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self

from sqlalchemy.orm import Session
from sse_starlette import ServerSentEvent

from app.auth.service import Caller, check_still_valid
from app.dashboard.views import EventView, JobView, MetricView, SampleView, View
from app.services import Services
from core.db import events, job_outputs, jobs, waiting
from core.domain.errors import NotFound, Unauthenticated
from core.domain.states import JobStatus

MAX_EVENTS = 500
MAX_METRICS = 2000
STREAM_SECONDS = 30 * 60
"""The browser then reconnects by itself, and its session is checked again."""


@dataclass(frozen=True)
class Cursor:
    """The last of each that the browser has. Samples start at step 0."""

    event: int = 0
    metric: int = -1
    sample: int = -1

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """From the start if the text is not a cursor."""
        parts = (text or "").split(".")
        if len(parts) != 3 or not all(part.removeprefix("-").isdecimal() and len(part) < 12 for part in parts):
            return cls()
        return cls(*map(int, parts))

    def __str__(self) -> str:
        return f"{self.event}.{self.metric}.{self.sample}"


class JobUpdates(View):
    job: JobView
    events: tuple[EventView, ...]
    metrics: tuple[MetricView, ...]
    validations: tuple[tuple[int, float], ...]
    """All of them: there are few, and a held-out loss may arrive later than its step."""
    samples: tuple[SampleView, ...]
    has_more: bool

    def advance(self, cursor: Cursor) -> Cursor:
        return Cursor(
            self.events[-1].seq if self.events else cursor.event,
            self.metrics[-1].step if self.metrics else cursor.metric,
            self.samples[-1].step if self.samples else cursor.sample,
        )


def read_updates(session: Session, caller: Caller, job_id: str, cursor: Cursor) -> JobUpdates:
    """The job first: everything that came with its last state can then be read. Raises NotFound, Unauthenticated."""
    check_still_valid(session, caller)
    row = jobs.get_job(session, caller.tenant_id, job_id)
    places = waiting.find_places(session, caller.tenant_id) if row.status == JobStatus.QUEUED else {}
    job = JobView.of(row, places.get(job_id))
    new_events = events.list_events(session, job_id, after_seq=cursor.event, limit=MAX_EVENTS)
    metrics, more_metrics = job_outputs.page_metrics(session, job_id, after_step=cursor.metric, limit=MAX_METRICS)
    samples = [sample for sample in jobs.list_samples(session, job_id) if sample.step > cursor.sample]
    return JobUpdates(
        job=job,
        events=tuple(map(EventView.of, new_events)),
        metrics=tuple(map(MetricView.of, metrics)),
        validations=tuple(job_outputs.list_validations(session, job_id)),
        samples=tuple(map(SampleView.of, samples)),
        has_more=more_metrics or len(new_events) == MAX_EVENTS,
    )


async def stream_updates(
    services: Services, caller: Caller, job_id: str, cursor: Cursor
) -> AsyncIterator[ServerSentEvent]:
    """Ends with an ``end`` message once the job has ended and everything of it was sent; without one if the job is
    deleted, or the session's key becomes invalid."""
    clock = asyncio.get_running_loop().time
    deadline, shown = clock() + STREAM_SECONDS, None
    judged: tuple[tuple[int, float], ...] = ()
    with services.progress.listen(job_id) as listener:
        while clock() < deadline:
            try:
                updates = await services.database.run(read_updates, caller, job_id, cursor)
            except (NotFound, Unauthenticated):
                return
            following = updates.advance(cursor)
            if following != cursor or updates.job != shown or updates.validations != judged:
                cursor, shown, judged = following, updates.job, updates.validations
                yield ServerSentEvent(updates.model_dump_json(), id=str(cursor), event="news")
            if updates.has_more:
                continue
            if updates.job.is_terminal:
                yield ServerSentEvent("", event="end")
                return
            await listener.wait()
