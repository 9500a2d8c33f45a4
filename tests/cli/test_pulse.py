"""Who reads a log or a pipe hears at least every 15 s that the command goes on."""

import io
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime

import pytest
from rich.console import Console

from atelier_client.models import Job, Progress
from cli import pulse
from cli.progress import LineProgress
from cli.pulse import Pulse
from cli.reporting import JsonReporter


@pytest.fixture(autouse=True)
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pulse.INTERVAL_SECONDS <= 15
    monkeypatch.setattr(pulse, "INTERVAL_SECONDS", 0.05)


def make_job(phase: str, **progress: int) -> Job:
    return Job(
        id="job_1", status="running", phase=phase, model="tiny", dataset="ds_1", created_at=datetime.now(UTC),
        progress=Progress(num_steps=100, **progress),
    )  # fmt: skip


def lines_during(work: Callable[[LineProgress], AbstractContextManager[object]]) -> list[str]:
    buffer = io.StringIO()
    with work(LineProgress(Console(file=buffer, width=100))):
        time.sleep(0.3)
    return buffer.getvalue().splitlines()


def test_a_wait_says_what_for_how_long_and_how_far() -> None:
    lines = lines_during(lambda progress: progress.waiting("Preparing sd15", lambda: "1.20 GB written"))
    assert len(lines) >= 2
    assert lines[0] == "  Preparing sd15, 0:00 so far, 1.20 GB written"


def test_an_upload_says_how_much_has_left() -> None:
    assert "  uploading, 0.0 of 3.0 MB" in lines_during(lambda progress: progress.uploading(3_000_000))


def test_a_phase_without_steps_shows_its_units() -> None:
    lines = lines_during(lambda progress: progress.following(make_job("caching", units_done=3, units_total=12)))
    assert lines[0] == "  caching 3/12 images, class images and captions, 0:00 so far"


def test_training_shows_its_steps() -> None:
    lines = lines_during(lambda progress: progress.following(make_job("training", step=7)))
    assert "  training, 7/100, 0:00 so far" in lines


def test_a_place_in_the_queue_is_printed() -> None:
    job = make_job("training").model_copy(update={"status": "queued", "phase": None, "queue_position": 2})
    lines = lines_during(lambda progress: progress.following(job))
    assert lines[0] == "queued, place 2"
    assert lines[1].startswith("  queued, place 2, ")


def test_programs_hear_it_as_documents(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = JsonReporter()
    with reporter.waiting("Checking the images"):
        time.sleep(0.15)
    with reporter.following(make_job("caching", units_done=3, units_total=12)):
        time.sleep(0.15)
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {document["event"] for document in documents} == {"waiting", "progress"}
    assert documents[-1]["units_done"] == 3


def test_nothing_is_added_while_something_else_is_said() -> None:
    beats: list[float] = []
    with Pulse(beats.append) as beating:
        for _ in range(20):
            time.sleep(0.01)
            beating.touch()
    assert beats == []
