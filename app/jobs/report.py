"""A job's report: one HTML page with all that is known of it, which needs no network and no service to be read."""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.orm import Session

from core.db import events, job_outputs, jobs, sample_requests, step_adapters
from core.db.step_adapters import KeptStep
from core.db.tables import Job, JobEvent, JobSample, SampleRequest
from core.domain.outcome import list_verdicts
from core.storage import Storage, StorageError

MAX_IMAGE_BYTES = 48 * 1024**2
"""Of all images of a page together. What comes after it is named without its image."""
MAX_POINTS, MAX_EVENTS = 600, 2_000
WIDTH, HEIGHT, MARGIN = 720, 240, 44
"""The curve's, in pixels."""

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Curve:
    """The losses as SVG coordinates. ``low`` and ``high``: what the curve's bottom and top stand for."""

    training: str
    held_out: tuple[tuple[float, float], ...]
    low: float
    high: float
    last_step: int


@dataclass(frozen=True)
class Report:
    """All that a page shows, read in one transaction; images are read from storage while it is written."""

    job: Job
    events: Sequence[JobEvent]
    steps: Sequence[KeptStep]
    samples: Sequence[JobSample]
    requests: Sequence[SampleRequest]
    curve: Curve | None


def read_report(session: Session, tenant_id: str, job_id: str) -> Report:
    """Raises NotFound."""
    job = jobs.get_job(session, tenant_id, job_id)
    losses = job_outputs.list_losses(session, job_id, max_points=MAX_POINTS)
    return Report(
        job,
        events.list_events(session, job_id, limit=MAX_EVENTS),
        step_adapters.list_steps(session, job_id),
        jobs.list_samples(session, job_id),
        sample_requests.list_requests(session, tenant_id, job_id),
        draw_curve(losses, job_outputs.list_validations(session, job_id)),
    )


def write_report(report: Report, storage: Storage) -> Iterator[bytes]:
    """In pieces, since a report may have tens of megabytes of images."""
    job, result = report.job, report.job.result or {}
    images = _Images(storage)
    pieces = _templates.get_template("report.html").generate(
        job=job,
        plan=_flatten(job.outline),
        spec=json.dumps(job.spec, indent=2, ensure_ascii=False, sort_keys=True),
        metrics=_flatten(result.get("metrics", {})),
        note=result.get("note"),
        warnings=result.get("warnings", []),
        proofs=list_verdicts(result),
        files=result.get("adapter", {}),
        error=job.error,
        report=report,
        curve=report.curve,
        size=(WIDTH, HEIGHT, MARGIN),
        embed=images.embed,
        show_time=_show_time,
        show_data=lambda data: json.dumps(data, ensure_ascii=False),
    )
    with io.BytesIO() as waiting:  # the template's pieces are often a few characters long
        for piece in pieces:
            waiting.write(piece.encode())
            if waiting.tell() > 1 << 16:
                yield waiting.getvalue()
                waiting.seek(0)
                waiting.truncate()
        yield waiting.getvalue()


def draw_curve(losses: Sequence[tuple[int, float]], held_out: Sequence[tuple[int, float]]) -> Curve | None:
    """``losses``: (step, loss). None for fewer than two."""
    if len(losses) < 2:
        return None
    values = [loss for _, loss in (*losses, *held_out)]
    low, high, last_step = min(values), max(values), max(step for step, _ in (*losses, *held_out))

    def place(step: int, loss: float) -> tuple[float, float]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * step / last_step
        y = MARGIN / 2 + (HEIGHT - MARGIN) * (high - loss) / ((high - low) or 1.0)
        return round(x, 1), round(y, 1)

    training = " ".join(f"{x},{y}" for x, y in (place(*one) for one in losses))
    return Curve(training, tuple(place(*one) for one in held_out), low, high, last_step)


class _Images:
    def __init__(self, storage: Storage) -> None:
        self._storage, self._left = storage, MAX_IMAGE_BYTES

    def embed(self, file: dict[str, Any]) -> str | None:
        """A PNG on record as a data URI; None if there is no room left, or the store does not give it."""
        if file["size"] > self._left:
            return None
        try:
            content = self._storage.read(file["key"])
        except StorageError:
            return None
        self._left -= len(content)
        return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _flatten(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " "), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in sorted(values.items())
        if value not in (None, [], "")
    ]


def _show_time(moment: datetime | None) -> str:
    return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S UTC")
