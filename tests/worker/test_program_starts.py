"""Each program of the engine starts by itself, with what it imports; most tests fork one that is started already."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.local.programs import ROOT
from tests.fixtures.warm_programs import LAUNCHER, PROGRAMS
from worker.device.wire import REPORTS, Ready

TRAINER = "worker.engine.serve"


def run(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, input=b"{}\n", capture_output=True, check=False, start_new_session=True)


@pytest.mark.slow
@pytest.mark.parametrize("module", [module for module in PROGRAMS if module != TRAINER])
def test_it_reads_its_order(module: str) -> None:
    ended = run(LAUNCHER, module, str(os.getpid()))
    assert ended.returncode == 1 and b"ValidationError" in ended.stderr, ended.stderr.decode()[-2000:]


@pytest.mark.slow
def test_a_trainer_is_ready_and_ends_with_its_input(tmp_path: Path) -> None:
    command = [sys.executable, "-m", TRAINER, "--device", "cpu", "--slot", "0", "--home", str(tmp_path)]
    with subprocess.Popen(
        [*command, "--parent", str(os.getpid())], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        assert isinstance(REPORTS.validate_json(process.stdout.readline()), Ready)
        process.stdin.close()
        assert process.wait(60) == 0
