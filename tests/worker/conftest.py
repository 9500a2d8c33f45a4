"""Real processes: Celery workers and stewards, as the supervisor starts them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.local.programs import ROOT
from core.storage import Storage, open_storage

Start = Callable[..., "Running"]


class Running:
    """A process, its log, and ways to wait for what it does."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.log_file = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                command, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def wait_for(self, words: str, count: int = 1) -> None:
        wait_until(lambda: self.log.count(words) >= count, lambda: self.log)

    def terminate(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(60)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(60)


def wait_until(
    condition: Callable[[], bool], describe: Callable[[], str] = lambda: "", timeout_seconds: float = 60
) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to pass\n{describe()}"
        time.sleep(0.05)


@pytest.fixture
def environment(database_url: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """As the supervisor makes it, with short periods."""
    return {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "ATELIER_HOME": str(tmp_path / "home"),
        "ATELIER_STORAGE": str(tmp_path / "storage"),
        "ATELIER_RING_SECONDS": "0.3",
        "ATELIER_SWEEP_SECONDS": "0.2",
        "ATELIER_LEASE_SECONDS": "2",
        "ATELIER_HEARTBEAT_SECONDS": "0.3",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(tmp_path),
    }


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """What the processes of ``environment`` use."""
    return open_storage(str(tmp_path / "storage"))


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Starts a command with ``environment`` and the given variables; nothing outlives the test."""
    started: list[Running] = []

    def start(*command: str, **variables: str) -> Running:
        log = tmp_path / f"process-{len(started)}.log"
        started.append(Running(list(command), {**environment, **variables}, log))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def start_probe(start: Start) -> Callable[..., Running]:
    """A worker like any other that also knows the tasks of ``tests.worker.probe``."""

    def start_probe(**variables: str) -> Running:
        worker = start(
            *(sys.executable, "-m", "celery", "-A", "tests.worker.probe", "worker", "-Q", "cpu", "-P", "prefork"),
            *("-c", "1", "-n", "probe@%h", "--without-mingle", "--without-gossip", "--loglevel", "INFO"), **variables,
        )  # fmt: skip
        worker.wait_for("ready.")
        return worker

    return start_probe
