"""What the pages say of a job's events, without a browser."""

from typing import Any

import pytest

from app.dashboard.views import describe_event
from core.domain.events import EventType

NO_BASE = "This worker has no base model x."


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"reason": "accepted"}, "Accepted"),
        ({"reason": "resumed"}, "Resumed"),
        ({"reason": NO_BASE}, f"Put back into the queue: {NO_BASE}"),
        ({}, "Put back into the queue"),
    ],
)
def test_a_job_that_waits_again_says_why(data: dict[str, Any], text: str) -> None:
    assert describe_event(EventType.QUEUED, 1, data) == text
