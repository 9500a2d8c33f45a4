"""The whole chain of a train worker: Celery's main process, its child, the trainer."""

import os
from pathlib import Path

import psutil
import pytest

from cli.local.programs import train_worker_command
from core.db.jobs import cancel_job
from core.domain.states import JobStatus
from core.queue import TRAIN_QUEUE, TRAIN_TASK
from tests.fixtures.house import LONG, House, house
from tests.worker.conftest import Running, wait_until
from worker.celery_app import app, configure

__all__ = ["house"]


def start_worker(house: House, log: Path) -> Running:
    settings = house.settings
    environment = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "ATELIER_HOME": str(settings.home),
        "ATELIER_CPU_THREADS": "1",
        "ATELIER_HEARTBEAT_SECONDS": "0.3",
        "ATELIER_LEASE_SECONDS": "10",
        "ATELIER_SLOT": "7",
    }
    worker = Running(list(train_worker_command(7)), {**os.environ, **environment}, log)
    worker.wait_for("ready.")
    return worker


def ring(house: House) -> None:
    options = configure(house.settings)
    with app.connection_for_write(url=options["broker_url"]) as connection:
        app.send_task(TRAIN_TASK, queue=TRAIN_QUEUE, connection=connection)


def family(worker: Running) -> list[psutil.Process]:
    main = psutil.Process(worker.popen.pid)
    return [main, *main.children(recursive=True)]


def is_over(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def configured(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", house.settings.database_url)
    monkeypatch.setenv("REDIS_URL", house.settings.redis_url)


def run_to_step(house: House, job_id: str, step: int, log: Path) -> tuple[Running, list[psutil.Process]]:
    """The worker, and its family of three: the main process, its child, the trainer."""
    worker = start_worker(house, log)
    ring(house)
    house.wait_for_step(job_id, step)
    processes = family(worker)
    assert len(processes) == 3
    return worker, processes


@pytest.mark.usefixtures("configured")
def test_sigterm_gives_the_job_back_uncharged_and_ends_all(house: House, tmp_path: Path) -> None:
    job_id = house.submit(**LONG)
    worker, processes = run_to_step(house, job_id, 1, tmp_path / "log")

    assert worker.terminate() == 0, worker.log

    job = house.job(job_id)
    assert (job.status, job.failures, job.lease_until) == (JobStatus.QUEUED, 0, None)
    wait_until(lambda: all(map(is_over, processes)))
    house.ask(cancel_job, job_id)


@pytest.mark.slow
@pytest.mark.usefixtures("configured")
def test_nothing_outlives_a_killed_worker(house: House, tmp_path: Path) -> None:
    job_id = house.submit(**LONG)
    worker, processes = run_to_step(house, job_id, 1, tmp_path / "log")

    worker.kill()

    wait_until(lambda: all(map(is_over, processes)))
    assert house.job(job_id).status == JobStatus.RUNNING, "the steward's to take back"
