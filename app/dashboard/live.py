"""A job's page as it changes: one stream of server-sent events with everything new since a cursor. Of a long history,
a page that opens gets about MAX_METRICS metrics, evenly spaced.

The cursor, ``<event seq>.<metric step>.<sample step>``, is each message's id; a browser that reconnects with it
misses nothing and gets nothing twice.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Self

from sqlalchemy.orm import Session
from sse_starlette import ServerSentEvent

from app.auth.service import Caller
from app.dashboard.views import EventView, JobView, MetricView, SampleView, View
from app.jobs import stream
from app.services import Services
from core.db import job_outputs, jobs
from core.domain.states import TERMINAL, JobStatus

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


class PageUpdates(View):
    job: JobView
    events: tuple[EventView, ...]
    metrics: tuple[MetricView, ...]
    validations: tuple[tuple[int, float], ...]
    """All of them: there are few, and a held-out loss may arrive later than its step."""
    samples: tuple[SampleView, ...]
    has_more: bool

    @property
    def has_ended(self) -> bool:
        return self.job.is_terminal and not self.has_more

    def advance(self, cursor: Cursor) -> Cursor:
        return Cursor(
            self.events[-1].seq if self.events else cursor.event,
            self.metrics[-1].step if self.metrics else cursor.metric,
            self.samples[-1].step if self.samples else cursor.sample,
        )


def read_page_updates(session: Session, caller: Caller, job_id: str, cursor: Cursor) -> PageUpdates:
    """The job first: everything that came with its last state can then be read. Raises NotFound, Unauthenticated."""
    updates = stream.read_updates(session, caller, job_id, cursor.event, MAX_EVENTS)
    if cursor.metric < 0:
        metrics, more_metrics = job_outputs.thin_metrics(session, job_id, after_step=-1, max_points=MAX_METRICS), False
    else:
        metrics, more_metrics = job_outputs.page_metrics(session, job_id, after_step=cursor.metric, limit=MAX_METRICS)
    # The samples of the promoted step are drawn after those of later steps, at the end.
    first = 0 if JobStatus(updates.job.status) in TERMINAL else cursor.sample + 1
    samples = [sample for sample in jobs.list_samples(session, job_id) if sample.step >= first]
    return PageUpdates(
        job=JobView.of(updates.job, updates.place),
        events=tuple(map(EventView.of, updates.events)),
        metrics=tuple(map(MetricView.of, metrics)),
        validations=tuple(job_outputs.list_validations(session, job_id)),
        samples=tuple(map(SampleView.of, samples)),
        has_more=more_metrics or updates.has_more,
    )


async def stream_updates(
    services: Services, caller: Caller, job_id: str, cursor: Cursor
) -> AsyncIterator[ServerSentEvent]:
    """Ends with an ``end`` message once the job has ended and everything of it was sent; without one if the job is
    deleted, or the session's key becomes invalid. Raises Unavailable: the browser then says so, and tries again."""
    shown = None
    news = stream.follow(services, caller, job_id, read_page_updates, cursor, seconds=STREAM_SECONDS)
    async with aclosing(news):
        async for updates in news:
            cursor = updates.advance(cursor)
            state = (cursor, updates.job, updates.validations)
            if state != shown:
                shown = state
                yield ServerSentEvent(updates.model_dump_json(), id=str(cursor), event="news")
            if updates.has_ended:
                yield ServerSentEvent("", event="end")
