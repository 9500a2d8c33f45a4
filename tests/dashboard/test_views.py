"""What the pages say of a job's events, without a browser."""

from typing import Any

import pytest

from app.dashboard.strings import DEFAULT, load_texts, translate
from app.dashboard.views import describe_event
from core.domain.audit import Action
from core.domain.events import EventType
from core.domain.states import Phase

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
    assert say(EventType.QUEUED, 1, data) == text


def say(kind: EventType, attempt: int, data: dict[str, Any]) -> str:
    key, values = describe_event(kind, attempt, data)
    return translate(DEFAULT, f"event.{key}", **values)


def test_every_audited_action_has_words_of_its_own() -> None:
    words = {action: translate(DEFAULT, f"audit.action.{action}") for action in Action}
    assert len(set(words.values())) == len(Action)
    assert not any("." in text or "_" in text for text in words.values())
    shown = {key for key in load_texts(DEFAULT) if key.startswith("audit.action.")}
    assert shown == {f"audit.action.{action}" for action in Action}


def test_every_event_has_a_text() -> None:
    data = {"step": 7, "message": "Resumed from step 5.", "reason": "nan-loss", "slot": "host/cuda:0/0"}
    texts = {kind: say(kind, 2, data) for kind in EventType if kind is not EventType.PHASE}
    assert texts[EventType.RUNNING] == "Started again on host/cuda:0/0, attempt 2"
    assert texts[EventType.SAMPLES] == "Samples at step 7"
    assert texts[EventType.NOTICE] == "Resumed from step 5."
    assert texts[EventType.FAILED] == "Failed: The loss became NaN"
    phases = [say(EventType.PHASE, 1, {"phase": phase}) for phase in Phase]
    assert phases == [phase.capitalize() for phase in Phase]
