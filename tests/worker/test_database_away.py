"""A database that goes away under a worker: what was claimed is worked on, and only what is to be written waits."""

import threading
from typing import Any

import pytest

from core.domain.states import JobStatus
from tests.fixtures.house import House, house
from tests.fixtures.servers import PostgresHandle, wait_for
from worker.jobs import attempt

__all__ = ["house"]


@pytest.mark.slow
def test_a_job_is_begun_and_trained_without_it(
    house: House, postgres: PostgresHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes right after the claim, and comes back when there is something to show: all in one attempt."""
    fetching, gone = threading.Event(), threading.Event()
    fetch_files = attempt.fetch_files

    def wait_and_fetch(*args: Any) -> Any:
        fetching.set()
        assert gone.wait(60)
        return fetch_files(*args)

    monkeypatch.setattr(attempt, "fetch_files", wait_and_fetch)
    job_id = house.submit(steps=60, checkpoints={"every": 20}, samples={"prompts": []})
    with house.running():
        assert fetching.wait(60)
        postgres.kill()
        gone.set()
        try:
            wait_for(lambda: any("checkpoints" in row.key for row in house.storage.list(f"jobs/{job_id}/")), 120)
        finally:
            postgres.start()
    job = house.job(job_id)
    assert (job.status, job.attempt, job.failures) == (JobStatus.SUCCEEDED, 1, 0), job.error
