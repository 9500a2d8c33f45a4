"""The demo, whole: it leaves the adapter and the grid, and no process."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from cli.demo import HOME, own_environment
from cli.local.programs import ROOT
from core.model_folders import BUNDLED
from tests.fixtures.servers import state_dir_for_tests

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BUNDLED / "tiny").exists(), reason="needs the bundled base models/tiny"),
]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """In a folder of its own, next to somebody's database that it must not touch; with all cores, as a user's."""
    with state_dir_for_tests():
        few = {"OMP_NUM_THREADS", "ATELIER_CPU_THREADS"}
        env = {name: value for name, value in os.environ.items() if name not in few}
    env |= {
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/theirs",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "cli.demo"],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield process
        process.kill()


def processes_of(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line:
            found.append(line)
    return found


def test_it_trains_downloads_and_says_how_to_look_again(demo: "subprocess.Popen[str]", tmp_path: Path) -> None:
    output, _ = demo.communicate(timeout=3600)
    assert demo.returncode == 0, output
    assert re.search(r"\b(\d+)/\1  loss", output), f"the last step is missing: {output}"
    assert f"up --home {HOME}" in output
    assert (tmp_path / "out" / "blip.safetensors").stat().st_size > 100_000
    with Image.open(tmp_path / "out" / "blip-grid.png") as grid:
        assert min(grid.size) > 200
    assert processes_of(tmp_path) == []


def test_ctrl_c_stops_the_service_too(demo: "subprocess.Popen[str]", tmp_path: Path) -> None:
    assert demo.stdout
    output = ""
    while "Job job_" not in output:
        line = demo.stdout.readline()
        assert line, f"it ended before there was a job: {output}"
        output += line
    demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=600)
    assert demo.returncode == 130, output
    assert "the service was stopped" in output
    assert processes_of(tmp_path) == []


def test_it_takes_nothing_of_somebody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://theirs")
    monkeypatch.setenv("ATELIER_STORAGE", "s3://theirs")
    monkeypatch.setenv("ATELIER_CPU_THREADS", "2")
    env = own_environment()
    assert not {"REDIS_URL", "ATELIER_STORAGE"} & env.keys()
    assert env["ATELIER_CPU_THREADS"] == "2"
