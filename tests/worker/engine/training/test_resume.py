"""A run that was stopped at any step and resumed ends in the same bytes, whatever it has to remember."""

from pathlib import Path
from typing import Any

import pytest

from core.domain.states import Phase
from tests.fixtures.bench import Bench, fingerprint, sha256
from worker.engine.observer import RecordingObserver, Stop, Stopped

TEXT = {"text_encoder": {"train": True}}
PLANS: dict[str, dict[str, Any]] = {
    "fp32, draws": {
        "precision": "fp32",
        "samples": {"every": 3},
        "gradient_accumulation": 2,
        "flip": True,
        "captions": {"dropout": 0.3, "shuffle": True},
        "loss": {"noise_offset": 0.1, "min_snr_gamma": 5},
        "schedule": {"name": "cosine", "warmup_steps": 3},
    },
    "bf16, dora, dropout, average, lion": {
        "precision": "bf16",
        "samples": {"every": 3},
        "adapter": {"type": "dora", "targets": "all", "dropout": 0.3, "ema": 0.9},
        "optimizer": {"name": "lion"},
    },
    "locon, gradient checkpointing, adafactor": {
        "adapter": {"type": "locon"},
        "gradient_checkpointing": True,
        "optimizer": {"name": "adafactor"},
    },
    "text encoder, prodigy, prior preservation": {
        "optimizer": {"name": "prodigy"},
        "loss": {"prior_preservation": {"class_prompt": "a thing", "num_images": 3}},
        **TEXT,
    },
    "text encoder, long captions beside short ones, average": {
        "captions": {"template": "{caption}, {trigger}", "dropout": 0.5},
        "adapter": {"dropout": 0.3, "ema": 0.9},
        **TEXT,
    },
    "held out, stopped early": {
        "steps": 12,
        "validation": {"fraction": 0.3, "every": 1, "early_stopping": {"patience": 2, "min_delta": 0.5}},
        "adapter": {"ema": 0.5},
    },
}


@pytest.mark.parametrize("spec", PLANS.values(), ids=PLANS)
def test_a_run_stopped_and_resumed_ends_in_the_same_bytes(bench: Bench, tmp_path: Path, spec: dict[str, Any]) -> None:
    plan = bench.plan(**{"steps": 5, "samples": {"prompts": []}, **spec})
    whole = RecordingObserver()
    undisturbed = bench.run(tmp_path / "whole", plan, whole)
    grids: dict[int, Any] = {}
    resume_from, stops = None, 0
    while True:
        part = Halting(stop=Stop.SAVE)
        try:
            result = bench.run(tmp_path / f"part{stops}", plan, part, resume_from)
            break
        except Stopped:
            stops += 1
            resume_from = part.checkpoints[-1][1]
        finally:
            grids |= {row[0]: row for row in part.grids}
    part.grids = [*grids.values()]
    assert stops >= 1
    assert result.outcome.held_out_losses == undisturbed.outcome.held_out_losses
    assert fingerprint(result, part) == fingerprint(undisturbed, whole)


@pytest.mark.parametrize("save", [Stop.SAVE, Stop.DROP])
def test_a_stop_among_the_scores_leaves_the_last_checkpoint_as_it_was(bench: Bench, tmp_path: Path, save: Stop) -> None:
    """The weights are promoted by then, and no checkpoint may have them in place of those that were trained."""
    spec = {"steps": 4, "evaluation": "on", "samples": {"prompts": []}, "validation": {"fraction": 0.3, "every": 1}}
    plan = bench.plan(**spec, adapter={"ema": 0.5})
    whole, part, rest = RecordingObserver(), StoppedAmongTheScores(save), RecordingObserver()
    undisturbed = bench.run(tmp_path / "whole", plan, whole)
    with pytest.raises(Stopped):
        bench.run(tmp_path / "part", plan, part)
    assert sha256(part.checkpoints[-1][1]) == sha256(whole.checkpoints[-1][1])
    result = bench.run(tmp_path / "rest", plan, rest, part.checkpoints[-1][1])
    rest.checkpoints = part.checkpoints
    assert fingerprint(result, rest) == fingerprint(undisturbed, whole)


class StoppedAmongTheScores(RecordingObserver):
    def __init__(self, stop: Stop) -> None:
        super().__init__(stop=stop)

    def should_stop(self) -> Stop | None:
        return self.stop if len(self.steps) == 4 and self.phases[-1] is Phase.SCORING else None


class Halting(RecordingObserver):
    """Asks to stop after every second step."""

    def should_stop(self) -> Stop | None:
        return Stop.SAVE if len(self.steps) >= 2 else None
