"""Real workers: how they end, how their jobs learn of it, and that nothing outlives them."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis

from cli.local.programs import ROOT, cpu_worker_command
from tests.worker.conftest import Running, Start, wait_until
from tests.worker.probe import app
from worker.lifetime import DrainPipe

StartProbe = Callable[..., Running]


def send(task: str, path: Path, url: str) -> None:
    with app.connection_for_write(url=url) as connection:
        app.send_task(task, args=[str(path)], queue="cpu", connection=connection)


@pytest.fixture
def celery(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """For sending from the test itself."""
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.setenv(name, environment[name])


def is_over(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.usefixtures("celery")
class TestDrain:
    def test_the_running_task_is_drained_and_waited_for(
        self, start_probe: StartProbe, redis_url: str, tmp_path: Path
    ) -> None:
        """It would wait for 50 seconds if it were not drained."""
        worker, path = start_probe(), tmp_path / "task"
        send("probe.wait_for_drain", path, redis_url)
        wait_until(path.exists, lambda: worker.log)

        assert worker.terminate() == 0
        assert Path(f"{path}.drained").read_text() == "True"

    def test_a_child_that_was_replaced_is_drained_too(
        self, start_probe: StartProbe, redis_url: str, tmp_path: Path
    ) -> None:
        worker = start_probe()
        (child,) = psutil.Process(worker.popen.pid).children()
        child.kill()
        path = tmp_path / "task"
        send("probe.wait_for_drain", path, redis_url)
        wait_until(path.exists, lambda: worker.log)
        assert int(path.read_text()) != child.pid

        assert worker.terminate() == 0
        assert Path(f"{path}.drained").read_text() == "True"


def test_a_line_tells_once_and_for_good() -> None:
    line, called = DrainPipe(), threading.Event()
    child = os.fork()
    if child == 0:
        line.listen(lambda: os._exit(7))
        threading.Event().wait(30)
        os._exit(1)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    line.close()
    line.close()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    line.listen(called.set)
    assert called.wait(30), "a late listener hears it too"


class TestNoOrphans:
    def test_the_child_dies_with_a_killed_worker(self, start_probe: StartProbe) -> None:
        worker = start_probe()
        (child,) = psutil.Process(worker.popen.pid).children()

        worker.kill()

        wait_until(lambda: is_over(child))

    def test_the_worker_dies_with_a_killed_parent(self, environment: dict[str, str], tmp_path: Path) -> None:
        """One that was not started by the supervisor's launcher."""
        log = tmp_path / "log"
        script = (
            "import subprocess, sys, time\n"
            f"log = open({str(log)!r}, 'wb')\n"
            "print(subprocess.Popen(sys.argv[1:], stdout=log, stderr=log).pid, flush=True)\n"
            "time.sleep(600)"
        )
        command = [sys.executable, "-c", script, *cpu_worker_command()]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            worker = psutil.Process(int(parent.stdout.readline()))
            wait_until(lambda: "ready." in log.read_text(), log.read_text)
            family = [worker, *worker.children()]
            parent.kill()

        assert len(family) == 2
        wait_until(lambda: all(map(is_over, family)))


@pytest.mark.usefixtures("celery")
class TestIdle:
    def test_a_worker_that_hears_nothing_connects_anew_and_hears_again(
        self, start_probe: StartProbe, redis_url: str, tmp_path: Path
    ) -> None:
        worker, path = start_probe(PROBE_IDLE_SECONDS="1"), tmp_path / "notes"
        (child,) = psutil.Process(worker.popen.pid).children()
        worker.wait_for("no bell was heard for 1 s", count=3)

        send("probe.note", path, redis_url)

        wait_until(path.exists, lambda: worker.log)
        assert child.is_running(), "only the consumer starts anew"
        assert "torch=False" in path.read_text()
        assert worker.terminate() == 0

    def test_a_busy_worker_is_left_alone(self, start_probe: StartProbe, redis_url: str, tmp_path: Path) -> None:
        worker, path = start_probe(PROBE_IDLE_SECONDS="0.5"), tmp_path / "busy"
        path.touch()
        send("probe.hold", path, redis_url)
        worker.wait_for("received")
        heard = worker.log.count("no bell was heard")
        threading.Event().wait(2)
        assert worker.log.count("no bell was heard") == heard

        path.unlink()

        worker.wait_for("no bell was heard", count=heard + 1)


@pytest.mark.usefixtures("celery")
def test_a_busy_worker_leaves_bells_to_others(
    start_probe: StartProbe, broker: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    worker, path = start_probe(), tmp_path / "busy"
    path.touch()
    send("probe.hold", path, redis_url)
    worker.wait_for("received")
    for _ in range(3):
        send("probe.note", tmp_path / "notes", redis_url)
    threading.Event().wait(1)

    assert broker.llen("cpu") == 3
    path.unlink()
    wait_until(lambda: broker.llen("cpu") == 0)


def test_the_cpu_worker_starts_as_the_supervisor_starts_it(start: Start) -> None:
    worker = start(*cpu_worker_command())
    worker.wait_for("ready.")

    assert "atelier.validate" in worker.log
    assert "Traceback" not in worker.log
    assert worker.terminate() == 0
