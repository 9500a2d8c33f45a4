"""A run that was stopped at its last step, before that was looked at: its last checkpoint is written again."""

from pathlib import Path

import pytest

from tests.fixtures.bench import Bench, fingerprint
from worker.engine.observer import RecordingObserver, Stop, Stopped

STEPS = 4


class StoppedAtTheLastStep(RecordingObserver):
    """``num_units``: of those that follow the last step; 0 stops right after it."""

    def __init__(self, num_units: int) -> None:
        super().__init__(stop=Stop.SAVE)
        self._num_units, self._units_then = num_units, 0

    def unit(self, done: int, total: int) -> None:
        super().unit(done, total)
        self._units_then += len(self.steps) == STEPS

    def should_stop(self) -> Stop | None:
        return self.stop if len(self.steps) == STEPS and self._units_then >= self._num_units else None


@pytest.mark.parametrize("num_units", [0, 1])
def test_it_ends_in_the_same_checkpoint(bench: Bench, tmp_path: Path, num_units: int) -> None:
    """Right after the step, and while the held-out loss is measured."""
    spec = {"steps": STEPS, "samples": {"prompts": []}, "validation": {"fraction": 0.3, "every": 1}}
    plan = bench.plan(**spec)
    whole, part, rest = RecordingObserver(), StoppedAtTheLastStep(num_units), RecordingObserver()
    undisturbed = bench.run(tmp_path / "whole", plan, whole)
    with pytest.raises(Stopped):
        bench.run(tmp_path / "part", plan, part)
    result = bench.run(tmp_path / "rest", plan, rest, part.checkpoints[-1][1])
    rest.checkpoints = [*part.checkpoints, *rest.checkpoints]
    assert result.outcome.held_out_losses == undisturbed.outcome.held_out_losses
    assert fingerprint(result, rest) == fingerprint(undisturbed, whole)
