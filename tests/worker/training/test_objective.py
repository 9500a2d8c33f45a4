"""The noise process against the papers' formulas."""

from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler

from core.domain.model import ModelInfo
from tests.fixtures.bases import make_plan, write_pictures
from worker.training.families.protocol import Posterior
from worker.training.objective import Draw
from worker.training.process import DiffusionProcess

TIMESTEPS = torch.tensor([0, 100, 500, 999])


def process(prediction_type: str, *, zero_snr: bool = False) -> DiffusionProcess:
    return DiffusionProcess(
        DDPMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            prediction_type=prediction_type,
            rescale_betas_zero_snr=zero_snr,
        )
    )


def test_min_snr_weights_are_the_papers() -> None:
    epsilon, v = process("epsilon"), process("v_prediction")
    alphas = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).alphas_cumprod[TIMESTEPS]
    snr = alphas / (1 - alphas)
    clipped = torch.minimum(snr, torch.tensor(5.0))
    torch.testing.assert_close(epsilon.min_snr_weights(TIMESTEPS, 5.0), clipped / snr)
    torch.testing.assert_close(v.min_snr_weights(TIMESTEPS, 5.0), clipped / (snr + 1))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_zero_terminal_snr_gives_finite_weights(prediction_type: str) -> None:
    weights = process(prediction_type, zero_snr=True).min_snr_weights(TIMESTEPS, 5.0)
    assert torch.isfinite(weights).all()


def test_v_is_what_undoes_the_noise() -> None:
    """x0 = sqrt(a) x_t - sqrt(1 - a) v (arXiv 2202.00512, appendix D)."""
    v = process("v_prediction")
    latents, noise = torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8)
    noisy = v.add_noise(latents, noise, TIMESTEPS)
    alphas = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).alphas_cumprod[TIMESTEPS]
    a = alphas.view(-1, 1, 1, 1)
    torch.testing.assert_close(a.sqrt() * noisy - (1 - a).sqrt() * v.target(latents, noise, TIMESTEPS), latents)


def test_a_draw_depends_on_seed_and_step_alone(random_base: tuple[Path, ModelInfo], tmp_path: Path) -> None:
    manifest, _ = write_pictures(tmp_path, [(64, 64)] * 2)
    posteriors = [Posterior(torch.zeros(4, 16, 16), torch.ones(4, 16, 16))] * 2
    epsilon = process("epsilon")

    def draw(step: int, **spec: object) -> Draw:
        return Draw(make_plan(manifest, random_base[1], **spec), epsilon, step, posteriors)

    first, again = draw(3), draw(3)
    assert torch.equal(first.noise, again.noise)
    assert torch.equal(first.latents, again.latents)
    assert torch.equal(first.timesteps, again.timesteps)
    assert not torch.equal(first.noise, draw(4).noise)
    assert not torch.equal(first.noise, draw(3, seed=1).noise)
    offset = draw(3, loss={"noise_offset": 0.5}).noise - first.noise
    torch.testing.assert_close(offset, offset.mean(dim=(2, 3), keepdim=True).expand_as(offset))
    assert offset.abs().max() > 0.01
