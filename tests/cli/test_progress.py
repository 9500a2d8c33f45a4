"""What a person reads of a job's events."""

from datetime import UTC, datetime
from typing import Any

import pytest

from cli.progress import describe_event
from client.models import JobEvent

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
