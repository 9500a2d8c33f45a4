"""What a person reads of a job's events."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from cli.progress import describe_event, describe_state, open_job_bar
from client.models import Job, JobEvent, Progress

NO_BASE = "This worker has no base model x."


@pytest.mark.parametrize(
    ("attempt", "data", "told"),
    [
        (0, {"reason": "accepted"}, None),
        (1, {"reason": NO_BASE}, f"  put back into the queue: {NO_BASE}"),
        (1, {}, "  put back into the queue"),
    ],
)
def test_a_job_that_waits_again_says_why(attempt: int, data: dict[str, Any], told: str | None) -> None:
    event = JobEvent(id="evt_1", type="job.queued", created_at=datetime.now(UTC), attempt=attempt, data=data)
    assert describe_event(event) == told


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
