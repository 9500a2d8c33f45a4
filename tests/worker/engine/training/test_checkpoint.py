"""A checkpoint holds everything that moves in a run: whoever adds a moving part must add it there."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.bench import Bench, Halting
from worker.engine.observer import RecordingObserver, Stopped
from worker.engine.training.loop import Run
from worker.engine.training.state import State

EVERYTHING = {
    "steps": 8,
    "adapter": {"ema": 0.5, "dropout": 0.2},
    "text_encoder": {"train": True},
    "optimizer": {"name": "prodigy"},
    "schedule": {"name": "cosine", "warmup_steps": 2},
    "validation": {"fraction": 0.3, "every": 1},
    "loss": {"prior_preservation": {"class_prompt": "a thing", "num_images": 2}},
    "captions": {"dropout": 0.2, "shuffle": True},
    "samples": {"prompts": []},
}
UNMOVED = {
    "plan", "runtime", "base", "cache", "prior", "accelerator", "observer", "workdir", "device",  # given
    "networks", "encoders",  # their trained parameters are the state's
    "state",  # the moving part
    "order", "held_out", "gallery",  # functions of (seed, step)
    "promoted_step",  # at the end alone
    "step_seconds", "last_saved",  # of the clock: no byte of a result depends on them
}  # fmt: skip


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Every run: from before its first step on, and one that resumed as it was then."""
    seen: list[Run] = []
    run_steps = Run.run_steps

    def watched(self: Run) -> None:
        seen.append(self)
        if not self.state.step:
            run_steps(self)
        raise Stopped

    monkeypatch.setattr(Run, "run_steps", watched)
    return seen


def test_everything_that_moved_is_in_the_checkpoint(bench: Bench, tmp_path: Path, runs: list[Run]) -> None:
    plan, first = bench.plan(**EVERYTHING), Halting(4)
    with pytest.raises(Stopped):
        bench.run(tmp_path / "first", plan, first)
    stopped = freeze(runs[0].state)
    with pytest.raises(Stopped):
        bench.run(tmp_path / "second", plan, resume_from=first.checkpoints[-1][1])
    restored = freeze(runs[-1].state)
    assert stopped["step"] == 4 and stopped["validation_curve"] and stopped["average"] and stopped["optimizer"]
    assert set(stopped) == {field.name for field in fields(State)} - {"accelerator"} | {"scaler"}
    for name, value in stopped.items():
        assert same(restored[name], value), f"{name} is not what it was: see worker/engine/training/checkpoint.py"


def test_held_out_losses_of_another_measure_are_taken_anew(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base's own too, under the weights that the checkpoint has."""
    spec = {"precision": "fp32", "samples": {"prompts": []}, "evaluation": "off"}
    plan, first = bench.plan(steps=6, validation={"fraction": 0.3, "every": 3}, **spec), RecordingObserver()
    whole = bench.run(tmp_path / "first", plan, first).outcome.held_out_losses
    monkeypatch.setattr("worker.engine.training.checkpoint.HELD_OUT_MEASURE", "another")
    halting = Halting(4)
    with pytest.raises(Stopped):
        bench.run(tmp_path / "second", plan, halting)
    monkeypatch.undo()
    again = bench.run(tmp_path / "third", plan, resume_from=halting.checkpoints[-1][1]).outcome.held_out_losses
    assert [step for step, _ in whole] == [0, 3, 6]
    assert again == (whole[0], whole[2]), "step 3 was before the checkpoint"


def test_nothing_moves_outside_of_the_state(bench: Bench, tmp_path: Path, runs: list[Run]) -> None:
    with pytest.raises(Stopped):
        bench.run(tmp_path, bench.plan(**EVERYTHING))
    assert set(vars(runs[0])) == UNMOVED, "if a new part moves, it belongs in State and in the checkpoint"


def freeze(state: State) -> dict[str, Any]:
    """The state's parts as plain values and tensors."""
    frozen: dict[str, Any] = dict(vars(state))
    frozen["params"] = {name: param.detach().clone() for name, param in state.params.items()}
    frozen["optimizer"] = {
        "moments": [dict(state.optimizer.state[param]) for param in state.params.values()],
        "groups": [{k: v for k, v in group.items() if k != "params"} for group in state.optimizer.param_groups],
    }
    frozen["schedule"] = state.schedule.state_dict()
    frozen["best"] = vars(state.best) if state.best else None
    scaler = frozen.pop("accelerator").scaler
    return frozen | {"scaler": scaler.state_dict() if scaler else None}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
