"""What a person reads of a job's events."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from atelier_client import Update
from atelier_client.models import Job, JobEvent, Progress
from cli.progress import LineProgress, LiveProgress, describe_event, describe_progress, describe_state, open_job_bar

NO_BASE = "This worker has no base model x."


@pytest.mark.parametrize(
    ("attempt", "data", "line"),
    [
        (0, {"reason": "accepted"}, None),
        (1, {"reason": NO_BASE}, f"  put back into the queue: {NO_BASE}"),
        (1, {}, "  put back into the queue"),
    ],
)
def test_a_job_that_waits_again_says_why(attempt: int, data: dict[str, Any], line: str | None) -> None:
    event = JobEvent(id="evt_1", type="job.queued", created_at=datetime.now(UTC), attempt=attempt, data=data)
    assert describe_event(event) == line


@pytest.mark.parametrize(
    ("status", "phase", "progress", "place", "state", "rest"),
    [
        ("queued", None, {"eta_seconds": 725.0}, 2, "queued, place 2", "12:05 left"),
        ("queued", None, {}, 1, "queued, place 1", ""),
        ("queued", None, {}, None, "queued", ""),
        ("running", "caching", {"units_done": 3, "units_total": 24}, None, "caching 3/24", "0/240"),
        ("running", "scoring", {"step": 240, "units_done": 5, "units_total": 32}, None, "scoring 5/32", "240/240"),
        (
            "running",
            "training",
            {"step": 12, "loss": 0.5, "eta_seconds": 9.0},
            None,
            "training",
            "12/240  loss 0.5000  0:09 left",
        ),
    ],
)
def test_what_is_said_of_a_jobs_progress(
    status: str, phase: str | None, progress: dict[str, Any], place: int | None, state: str, rest: str
) -> None:
    job = Job.model_validate(
        {
            **{"id": "job_1", "model": "tiny", "dataset": "ds_1", "created_at": datetime.now(UTC)},
            **{"status": status, "phase": phase, "queue_position": place, "progress": {"num_steps": 240, **progress}},
        }
    )
    assert (describe_state(job), describe_progress(job)) == (state, rest)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_bar_of_a_slow_job_stays_on_one_line(width: int) -> None:
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, force_terminal=True, no_color=True)
    progress = Progress(step=1200, num_steps=2400, loss=0.0712, seconds_per_step=112.18, eta_seconds=134_616)
    job = Job(
        id="job_1", status="running", phase="sampling", model="sdxl", dataset="ds_1", created_at=datetime.now(UTC),
        progress=progress.model_copy(update={"units_done": 12, "units_total": 48}),
    )  # fmt: skip
    bars = open_job_bar(console)
    bars.add_task(describe_state(job), total=2400, completed=1200, job=job)
    console.print(bars.get_renderable())
    (line,) = buffer.getvalue().splitlines()
    assert "sampling" in line and "1200/2400" in line
    assert width < 80 or "37:23:36 left" in line


def make_event(kind: str, **data: Any) -> JobEvent:
    return JobEvent(id="evt_1", type=f"job.{kind}", created_at=datetime.now(UTC), attempt=1, data=data)


def make_job(status: str, phase: str | None = None, step: int = 0, place: int | None = None) -> Job:
    return Job(
        id="job_1", status=status, phase=phase, model="tiny", dataset="ds_1", created_at=datetime.now(UTC),
        queue_position=place, progress=Progress(num_steps=40, step=step),
    )  # fmt: skip


def phases(*names: str) -> list[Update]:
    return [make_event("phase", phase=name) for name in names]


HISTORY = ["loading", "caching: the images, class images and captions are prepared for training", "training"]
END = ["sampling", "  sample pictures at step 40", "scoring", "exporting"]
SAMPLED = [*phases("sampling"), make_event("samples", step=40), *phases("scoring", "exporting")]
BEGUN = [make_event("running"), *phases("caching", "training")]


@pytest.mark.parametrize(
    ("updates", "lines"),
    [
        pytest.param(
            [*BEGUN, *SAMPLED, make_event("succeeded"), make_job("succeeded", step=40)],
            ["queued, place 1", *HISTORY, "  40/40", *END],
            id="all at once",
        ),
        pytest.param(
            [*BEGUN, make_job("running", "training", 20), *SAMPLED, make_job("running", "training", 32),
             make_job("running", "exporting", 40), make_event("succeeded"), make_job("succeeded", step=40)],
            ["queued, place 1", *HISTORY, "  20/40", "  32/40", "  40/40", *END],
            id="a job that is older than its events",
        ),
        pytest.param(
            [*BEGUN, *phases("sampling"), make_event("samples", step=20), *phases("training"),
             make_job("running", "training", 24), make_event("checkpoint", step=24), make_job("paused", step=24)],
            ["queued, place 1", *HISTORY, "sampling", "  sample pictures at step 20", "training", "  24/40",
             "  checkpoint at step 24"],
            id="samples in between",
        ),
        pytest.param(
            [make_job("queued", place=1), make_job("queued", place=1), *BEGUN[:1], make_job("running", "loading"),
             make_event("queued", reason="the worker was lost"), make_job("queued", place=2), *phases("loading")],
            ["queued, place 1", "loading", "  put back into the queue: the worker was lost", "queued, place 2",
             "loading"],
            id="put back",
        ),
    ],
)  # fmt: skip
def test_lines_come_in_the_order_in_which_things_happened(updates: list[Update], lines: list[str]) -> None:
    buffer = io.StringIO()
    with LineProgress(Console(file=buffer, width=100)).following(make_job("queued", place=1)) as on_update:
        for update in updates:
            on_update(update)
    assert buffer.getvalue().splitlines() == lines


def test_a_terminal_says_what_is_counted_too() -> None:
    buffer = io.StringIO()
    console = Console(file=buffer, width=100, force_terminal=True, no_color=True)
    with LiveProgress(console).following(make_job("queued", place=1)) as on_update:
        on_update(make_event("phase", phase="caching"))
    assert "caching: the images, class images and captions are prepared" in buffer.getvalue()
