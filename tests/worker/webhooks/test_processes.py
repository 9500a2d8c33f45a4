"""The steward hands deliveries out and a CPU worker sends them, as real processes that are killed in the middle."""

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from cli.local.programs import cpu_worker_command, steward_command
from tests.fixtures.receiver import Message, Receiver, Reply, serve_receiver
from tests.fixtures.webhook_jobs import insert_webhook_job, list_rows, run_job
from tests.worker.conftest import Running, Start, wait_until
from worker.celery_app import app

Sessions = sessionmaker[Session]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with serve_receiver() as receiver:
        yield receiver


@pytest.fixture
def start_worker(start: Start) -> Callable[[], Running]:
    def start_worker() -> Running:
        worker = start(*cpu_worker_command(), ATELIER_WEBHOOK_ALLOW="127.0.0.1", ATELIER_WEBHOOK_TIMEOUT_SECONDS="3")
        worker.wait_for("ready.")
        return worker

    return start_worker


class Hold:
    """A receiver's answer that waits for the test."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, _: Message) -> Reply:
        self.go_on.wait(60)
        return (200, b"")


def is_delivered(sessions: Sessions, job_id: str) -> bool:
    return {row.status for row in list_rows(sessions, job_id)} == {"delivered"}


def test_nobody_rang_and_every_event_arrives(
    start: Start, start_worker: Callable[[], Running], sessions: Sessions, receiver: Receiver
) -> None:
    job_id = insert_webhook_job(sessions, receiver.url)
    worker = start_worker()
    start(*steward_command(), ATELIER_RING_SECONDS="600")
    wait_until(lambda: is_delivered(sessions, job_id), lambda: worker.log)

    run_job(sessions, job_id, checkpoints=2)

    wait_until(lambda: is_delivered(sessions, job_id), lambda: worker.log)
    rows = list_rows(sessions, job_id)
    assert set(receiver.ids) == {row.event_id for row in rows}
    assert all(message.verified for message in receiver.messages)
    assert [row.attempt for row in rows] == [1] * 6


def test_a_worker_killed_between_sending_and_recording_sends_again_under_the_same_id(
    start: Start, start_worker: Callable[[], Running], sessions: Sessions, receiver: Receiver
) -> None:
    hold = receiver.reply = Hold()
    job_id = insert_webhook_job(sessions, receiver.url)
    steward, first = start(*steward_command()), start_worker()
    wait_until(lambda: len(receiver.messages) == 1, lambda: steward.log + first.log)
    first.kill()
    hold.go_on.set()

    second = start_worker()
    wait_until(lambda: is_delivered(sessions, job_id), lambda: second.log)

    (row,) = list_rows(sessions, job_id)
    assert receiver.ids == [row.event_id] * 2
    assert receiver.messages[0].content == receiver.messages[1].content
    assert all(message.verified for message in receiver.messages)
    assert [entry["status_code"] for entry in row.log] == [None, 200]


def test_a_worker_that_is_asked_to_end_waits_for_its_deliveries(
    start: Start, start_worker: Callable[[], Running], sessions: Sessions, receiver: Receiver
) -> None:
    hold = receiver.reply = Hold()
    job_id = insert_webhook_job(sessions, receiver.url)
    worker = start_worker()
    start(*steward_command())
    wait_until(lambda: len(receiver.messages) == 1, lambda: worker.log)
    worker.popen.send_signal(signal.SIGTERM)
    worker.wait_for("Warm shutdown")
    hold.go_on.set()

    assert worker.popen.wait(60) == 0
    assert is_delivered(sessions, job_id), worker.log
    assert len(receiver.messages) == 1


def test_a_task_that_takes_long_holds_up_no_delivery(
    start: Start,
    start_probe: Callable[..., Running],
    environment: dict[str, str],
    sessions: Sessions,
    receiver: Receiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as the check of a large dataset, on the only worker there is."""
    first = insert_webhook_job(sessions, receiver.url)
    worker = start_probe(ATELIER_WEBHOOK_ALLOW="127.0.0.1")
    start(*steward_command())
    wait_until(lambda: is_delivered(sessions, first), lambda: worker.log)
    busy = tmp_path / "busy"
    busy.touch()
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.setenv(name, environment[name])
    with app.connection_for_write(url=environment["REDIS_URL"]) as connection:
        app.send_task("probe.hold", args=[str(busy)], queue="cpu", connection=connection)
    worker.wait_for("Task probe.hold")

    second = insert_webhook_job(sessions, receiver.url)
    wait_until(lambda: is_delivered(sessions, second), lambda: worker.log)
    busy.unlink()
