"""A trainer that says what no trainer says."""

import os
from pathlib import Path

import pytest

from worker.device.trainer import TrainerDied, TrainerHandle


def test_nonsense_is_a_death_and_not_a_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "trainer"
    program.write_text('#!/bin/sh\necho \'{"type": "step", "loss": null}\'\nexec sleep 600\n')
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(program))
    trainer = TrainerHandle(device="cpu", slot=0, home=tmp_path, log=tmp_path / "log" / "trainer.log")
    try:
        with pytest.raises(TrainerDied, match="signal 9"):
            trainer.receive(60)
    finally:
        trainer.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(trainer.pid, 0)
