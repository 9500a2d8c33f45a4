"""What a person reads of a job's events."""

from datetime import UTC, datetime
from typing import Any

import pytest

from cli.progress import describe_event, describe_progress
from client.models import Job, JobEvent

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


@pytest.mark.parametrize(
    ("status", "phase", "progress", "place", "told"),
    [
        ("queued", None, {"eta_seconds": 725.0}, 2, "place 2 in the queue  12:05 left"),
        ("queued", None, {}, 1, "place 1 in the queue"),
        ("queued", None, {}, None, ""),
        ("running", "caching", {"units_done": 3, "units_total": 24}, None, "3/24"),
        ("running", "scoring", {"step": 240, "units_done": 5, "units_total": 32}, None, "5/32"),
        ("running", "training", {"step": 12, "loss": 0.5, "eta_seconds": 32.0}, None, "12/240  loss 0.5000  0:32 left"),
    ],
)
def test_what_is_said_of_a_jobs_progress(
    status: str, phase: str | None, progress: dict[str, Any], place: int | None, told: str
) -> None:
    job = Job.model_validate(
        {
            **{"id": "job_1", "model": "tiny", "dataset": "ds_1", "created_at": datetime.now(UTC)},
            **{"status": status, "phase": phase, "queue_position": place, "progress": {"num_steps": 240, **progress}},
        }
    )
    assert describe_progress(job) == told
