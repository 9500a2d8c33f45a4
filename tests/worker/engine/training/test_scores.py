"""The scores: what they call nothing, all, and something in between; and the held-out loss that never jumps."""

import math
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler

from core.domain.outcome import Scores, explain, warn
from tests.fixtures.bench import CPU, Bench, encode_set
from worker.engine.errors import NanLoss
from worker.engine.families.protocol import SamplingParams
from worker.engine.observer import RecordingObserver
from worker.engine.training.held_out import HeldOut
from worker.engine.training.scores import score_retention
from worker.engine.training.state import State, is_worse, quantile_of_t

SAMPLING = SamplingParams(num_steps=10, guidance_scale=5.0, guidance_rescale=0.0, width=64, height=64)


def test_retention_is_one_for_the_same_and_none_for_other_answers() -> None:
    rng = torch.Generator().manual_seed(0)
    before = torch.randn(8, 256, generator=rng)
    assert score_retention(before, before) == 1.0
    assert score_retention(before, torch.randn(8, 256, generator=rng)) == pytest.approx(0.0, abs=0.1)
    half = score_retention(before, before + 0.5 * torch.randn(8, 256, generator=rng))
    assert half == pytest.approx(1 - 0.25 / 2, abs=0.02)  # two independent answers are sqrt(2) apart


def test_retention_is_of_the_bases_features(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained adapter moves no latents; features that differ at every call move all the same."""
    plan = bench.plan(
        steps=1, precision="fp32", samples={"prompts": []}, evaluation="on", optimizer={"learning_rate": 1e-6}
    )
    assert bench.run(tmp_path / "same", plan).outcome.scores.retention == pytest.approx(1.0, abs=1e-3)
    base, rng = bench.load(bench.runtime(plan)), torch.Generator().manual_seed(0)
    monkeypatch.setattr(base, "features", lambda latents: torch.randn(len(latents), 64, generator=rng))
    assert bench.run(tmp_path / "other", plan, base=base).outcome.scores.retention == pytest.approx(0.0, abs=0.3)


def test_a_held_out_loss_is_the_same_every_time(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(validation={"fraction": 0.3}, precision="fp32")
    base = bench.load(bench.runtime(plan))
    cache = encode_set(base, plan, bench.files, tmp_path)
    held_out = HeldOut(base, plan, cache)
    assert len(held_out.texts) == len(plan.held_out_images) > 0
    rows = [cache.conditioning[text] for text in held_out.texts]
    seen = RecordingObserver()
    assert held_out.measure(rows, CPU, seen) == held_out.measure(rows, CPU, seen)
    assert seen.units == 2 * len(held_out.texts)


def test_a_held_out_loss_is_of_the_picture(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no noise is predicted, at alpha-bar a, the image is off by sqrt((1 - a) / a) times the noise."""
    plan = bench.plan(validation={"fraction": 0.3}, precision="fp32")
    base = bench.load(bench.runtime(plan))
    cache = encode_set(base, plan, bench.files, tmp_path)
    held_out = HeldOut(base, plan, cache)
    monkeypatch.setattr(base, "predict", lambda noisy, timesteps, rows: torch.zeros_like(noisy))
    losses = held_out.measure([cache.conditioning[text] for text in held_out.texts], CPU, RecordingObserver())
    middles = torch.tensor([62, 187, 312, 437, 562, 687, 812, 937])
    left = DDPMScheduler.from_pretrained(bench.folder, subfolder="scheduler").alphas_cumprod[middles]
    assert losses == pytest.approx([((1 - left) / left).mean().item()] * len(losses), rel=0.2)


def test_a_held_out_loss_that_is_no_number_ends_the_run(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeldOut, "measure", lambda self, *_: [math.nan] * len(self.texts))
    with pytest.raises(NanLoss, match="held-out loss is not a finite number at step 0"):
        bench.run(tmp_path, bench.plan(steps=1, validation={"fraction": 0.3}))


@pytest.mark.parametrize(
    ("losses", "worse"),
    [([1.0, 2.0, 3.0], False), ([1.2, 2.1, 3.2], False), ([1.1, 2.3, 3.4], True), ([0.5, 1.5, 2.5], False)],
)
def test_worse_is_what_the_pictures_agree_about(losses: list[float], worse: bool) -> None:
    """t is 2.34 and 9.2 in the second and the third, and has to be 2.92."""
    assert is_worse(losses, [1.0, 2.0, 3.0]) == worse


def test_images_agree_whatever_each_ones_loss() -> None:
    assert is_worse([0.11, 0.33], [0.1, 0.3])
    assert not is_worse([0.0, 0.33], [0.0, 0.3]), "of one that its mask hides nothing is known"


def test_one_picture_tells_nothing() -> None:
    assert not is_worse([9.0], [1.0])


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 6.314), (10, 1.812), (11, 1.796), (15, 1.753), (1000, 1.646)])
def test_the_quantiles_are_students(freedom: int, quantile: float) -> None:
    assert quantile_of_t(freedom) == pytest.approx(quantile, abs=0.0015)


def judged(*rows: list[float]) -> State:
    """A state whose only weight is the step, after these held-out losses, the first of them the base's."""
    weight = torch.nn.Parameter(torch.zeros(1))
    state = State({"w": weight}, None, None, Accelerator(cpu=True))
    for step, losses in enumerate(rows):
        state.step = step
        weight.data.fill_(step)
        state.record_validation(step, losses)
    return state


def test_the_latest_that_is_as_good_as_any_is_promoted() -> None:
    state = judged([9.0, 9.0, 9.0], [5.0, 6.0, 7.0], [4.9, 6.1, 6.8], [5.1, 6.0, 6.8], [8.0, 8.9, 9.1])
    assert state.promote() == 3
    assert state.params["w"].item() == 3.0


def test_a_loss_that_never_falls_below_the_bases_chooses_nothing() -> None:
    state = judged([1.0, 1.0], [2.0, 2.1], [3.0, 3.3])
    assert state.best is None
    assert state.promote() == 2


def test_patience_counts_from_the_last_fall_that_was_large_enough() -> None:
    state = judged([9.0, 9.0], [5.0, 5.0], [4.9, 4.9], [4.8, 4.8])
    assert (state.evals_without_improvement(0.0), state.evals_without_improvement(0.1)) == (0, 2)


def test_a_run_ends_when_its_patience_does_and_says_which_step_it_took(bench: Bench, tmp_path: Path) -> None:
    validation = {"fraction": 0.3, "every": 1, "early_stopping": {"patience": 2, "min_delta": 0.5}}
    plan = bench.plan(steps=8, precision="fp32", samples={"prompts": []}, validation=validation)
    outcome = bench.run(tmp_path, plan).outcome
    assert outcome.stopped_early and outcome.num_steps < plan.steps
    assert outcome.held_out_losses[0][0] == 0
    assert f"step {outcome.step}" in explain(outcome, plan).replace("last step, ", "step ")


def test_a_low_retention_is_warned_of(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(steps=1, precision="fp32", samples={"prompts": []}, evaluation="off")
    outcome = bench.run(tmp_path, plan).outcome
    assert warn(outcome) == [], "nothing was measured"
    kept, lost = (outcome.model_copy(update={"scores": Scores(retention=share)}) for share in (0.9, 0.31))
    assert warn(kept) == []
    assert "retention 0.31" in warn(lost)[0] and "prior_preservation" in warn(lost)[0]


def test_a_held_out_loss_that_never_fell_below_the_bases_is_warned_of(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(steps=1, precision="fp32", samples={"prompts": []}, evaluation="off", validation={"fraction": 0})
    outcome = bench.run(tmp_path, plan).outcome
    learned, failed = (
        outcome.model_copy(update={"held_out_losses": losses})
        for losses in (((0, 0.5), (5, 0.4), (10, 0.6)), ((0, 0.5), (5, 0.5), (10, 0.6)))
    )
    assert warn(learned) == []
    assert "may not have learned the concept" in warn(failed)[0]
