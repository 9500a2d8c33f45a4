"""Jobs and datasets, as pages and their scripts show them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from app.datasets.schemas import ImageOut
from core.db.tables import Dataset, Job, JobEvent, JobMetric, JobSample
from core.domain.dataset import DatasetReport, ManifestImage
from core.domain.events import EventType
from core.domain.states import TERMINAL, JobStatus, Phase, TerminationReason, title_of
from core.domain.waiting import Place

ACTIONS = frozenset({"accepted", "resumed"})
"""Reasons for which a job is queued that are somebody's act, and no hindrance."""


class View(BaseModel):
    model_config = ConfigDict(frozen=True)


class JobView(View):
    """``phase`` while the job runs. Units are seconds and bytes unless stated."""

    id: str
    name: str
    status: JobStatus
    phase: Phase | None
    model: str
    dataset: str
    trigger: str
    attempt: int
    step: int
    num_steps: int
    percent: float
    units_done: int | None
    units_total: int | None
    loss: float | None
    seconds_per_step: float | None
    eta_seconds: float | None
    queue_position: int | None
    waiting_reason: str | None
    cover_step: int | None
    estimated_seconds: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error_title: str | None
    error_detail: str | None
    is_terminal: bool
    can_cancel: bool
    can_pause: bool
    can_resume: bool
    has_adapter: bool

    @classmethod
    def of(cls, job: Job, place: Place | None = None, reason: str | None = None) -> Self:
        """``place``: a queued job's place in the queue; ``reason``: of its last event ``job.queued``."""
        status, progress, error = JobStatus(job.status), job.progress or {}, job.error or {}
        phase = Phase(job.phase) if job.phase and status is JobStatus.RUNNING else None
        succeeded = status is JobStatus.SUCCEEDED
        return cls(
            id=job.id,
            name=str(job.outline["name"]),
            status=status,
            phase=phase,
            model=job.model_id,
            dataset=job.dataset_id,
            trigger=str(job.outline["trigger"]),
            attempt=job.attempt,
            step=progress.get("step", 0),
            num_steps=int(job.outline["steps"]),
            percent=100.0 if succeeded else progress.get("percent", 0.0),
            units_done=progress.get("units_done"),
            units_total=progress.get("units_total"),
            loss=progress.get("loss"),
            seconds_per_step=progress.get("seconds_per_step"),
            eta_seconds=None if status in TERMINAL else find_eta(job, place),
            queue_position=place and place.number,
            waiting_reason=None if reason in ACTIONS else reason,
            cover_step=(job.result or {}).get("samples") if succeeded else None,
            estimated_seconds=job.estimate.get("seconds"),
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            error_title=error.get("title"),
            error_detail=error.get("detail"),
            is_terminal=status in TERMINAL,
            can_cancel=status not in TERMINAL and status is not JobStatus.CANCELING,
            can_pause=status is JobStatus.RUNNING or status is JobStatus.QUEUED,
            can_resume=status is JobStatus.PAUSED,
            has_adapter=succeeded,
        )


def find_eta(job: Job, place: Place | None) -> float | None:
    """A running job's remaining steps; for a queued job the time to its end, with the jobs ahead of it."""
    if job.status != JobStatus.QUEUED:
        return (job.progress or {}).get("eta_seconds")
    return place.ends_in(job.estimate.get("seconds")) if place else None


class EventView(View):
    """Its text is ``event.<key>`` in strings/, with ``values`` as its fields."""

    seq: int
    type: str
    key: str
    values: dict[str, str | int]
    created_at: datetime

    @classmethod
    def of(cls, event: JobEvent) -> Self:
        key, values = describe_event(EventType(event.type), event.attempt, event.data)
        return cls(seq=event.seq, type=event.type, key=key, values=values, created_at=event.created_at)


def describe_event(kind: EventType, attempt: int, data: dict[str, Any]) -> tuple[str, dict[str, str | int]]:
    """The text's key behind ``event.``, and its fields."""
    match kind:
        case EventType.QUEUED:
            return describe_queued(str(data.get("reason") or ""))
        case EventType.RUNNING:
            started: dict[str, str | int] = {"worker": str(data["slot"])}
            return ("started", started) if attempt <= 1 else ("startedAgain", {**started, "attempt": attempt})
        case EventType.PHASE:
            phase = str(data.get("phase", ""))
            return (phase, {}) if phase in set(Phase) else ("notice", {"message": phase})  # of a newer worker
        case EventType.CHECKPOINT | EventType.SAMPLES | EventType.REQUESTED_SAMPLES | EventType.PROMOTED:
            return kind.removeprefix("job."), {"step": int(data["step"])}
        case EventType.NOTICE:
            return "notice", {"message": str(data.get("message", ""))}
        case EventType.FAILED:
            return "failed", {"title": title_of(TerminationReason(data["reason"]))}
        case _:
            return kind.removeprefix("job."), {}


def describe_queued(reason: str) -> tuple[str, dict[str, str | int]]:
    """The reason is one word for a person's action, otherwise why the job waits."""
    if reason in ACTIONS:
        return reason, {}
    return ("putBackBecause", {"reason": reason}) if reason else ("putBack", {})


class SampleView(View):
    step: int
    prompts: tuple[str, ...]

    @classmethod
    def of(cls, sample: JobSample) -> Self:
        return cls(step=sample.step, prompts=tuple(str(image["prompt"]) for image in sample.images))


class MetricView(View):
    step: int
    loss: float
    learning_rate: float

    @classmethod
    def of(cls, metric: JobMetric) -> Self:
        return cls(
            step=metric.step,
            loss=metric.loss,
            learning_rate=metric.learning_rate,
        )


class ImageView(View):
    name: str
    url: str
    thumbnail_url: str
    caption: str | None
    width: int
    height: int

    @classmethod
    def of(cls, dataset_id: str, image: ManifestImage) -> Self:
        described = ImageOut.of(dataset_id, image)
        return cls(**described.model_dump(include=set(cls.model_fields)))


class DatasetView(View):
    id: str
    name: str
    status: str
    created_at: datetime
    error_detail: str | None
    waiting_reason: str | None
    report: DatasetReport | None
    parent: str | None
    images: tuple[ImageView, ...]
    cover: ImageView | None

    @classmethod
    def of(cls, dataset: Dataset, images: Sequence[ManifestImage] = (), cover: ManifestImage | None = None) -> Self:
        """``cover``: its first image."""
        return cls(
            id=dataset.id,
            name=dataset.name or dataset.id,
            status=dataset.status,
            created_at=dataset.created_at,
            error_detail=(dataset.error or {}).get("detail"),
            waiting_reason=dataset.waiting_reason,
            report=DatasetReport.model_validate(dataset.report) if dataset.report else None,
            parent=dataset.parent_id,
            images=tuple(ImageView.of(dataset.id, image) for image in images),
            cover=ImageView.of(dataset.id, cover) if cover else None,
        )
