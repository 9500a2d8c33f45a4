"""A trainer that breaks the protocol, and one with several runs."""

import os
from pathlib import Path

import pytest

from core.domain.plan import TrainPlan
from tests.fixtures.commands import make_train
from worker.device.trainer import TrainerDied, TrainerHandle
from worker.device.wire import Noticed, Train


def make_command(folder: Path, run_id: str = "job_1/1") -> Train:
    return make_train(TrainPlan.model_construct(), folder, run_id)


def test_nonsense_is_a_death_and_not_a_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "trainer"
    program.write_text('#!/bin/sh\necho \'{"type": "step", "loss": null}\'\nexec sleep 600\n')
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(program))
    trainer = TrainerHandle(device="cpu", slot=0, home=tmp_path, log_file=tmp_path / "log" / "trainer.log")
    try:
        with pytest.raises(TrainerDied, match="signal 9"):
            trainer.start(make_command(tmp_path)).receive(60)
    finally:
        trainer.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(trainer.pid, 0)


def test_each_run_receives_its_own_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "trainer"
    lines = [
        '{"type": "notice", "run_id": "b", "message": "of b"}',
        '{"type": "notice", "run_id": "gone", "message": "of nobody"}',
        '{"type": "notice", "run_id": "a", "message": "of a"}',
    ]
    program.write_text("#!/bin/sh\nread one\nread two\n" + "".join(f"echo '{line}'\n" for line in lines) + "exit 3\n")
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(program))
    trainer = TrainerHandle(device="cpu", slot=0, home=tmp_path, log_file=tmp_path / "log" / "trainer.log")
    try:
        first = trainer.start(make_command(tmp_path, "a"))
        second = trainer.start(make_command(tmp_path, "b"))
        for run, message in ((first, "of a"), (second, "of b")):
            assert run.receive(60) == Noticed(run_id=message[-1], message=message)
            with pytest.raises(TrainerDied, match="exit code 3"):
                run.receive(60)
    finally:
        trainer.kill()
