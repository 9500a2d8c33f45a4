"""The random part of a step, and the loss."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from core.domain.plan import TrainPlan
from worker.training.draws import generator
from worker.training.families.protocol import Base, Conditioning, NoiseProcess, Posterior


class Draw:
    """The random part of one micro-batch: posterior samples, noise and timesteps, all from keyed generators."""

    def __init__(self, plan: TrainPlan, process: NoiseProcess, step: int, posteriors: Sequence[Posterior]) -> None:
        shape = (len(posteriors), *posteriors[0].mean.shape)
        spread = torch.randn(shape, generator=generator(plan.seed, step, "posterior"))
        self.latents = torch.stack([row.mean for row in posteriors]) + spread * torch.stack(
            [row.std for row in posteriors]
        )
        self.noise = torch.randn(shape, generator=generator(plan.seed, step, "noise"))
        if plan.noise_offset:
            offset = torch.randn((*shape[:2], 1, 1), generator=generator(plan.seed, step, "offset"))
            self.noise = self.noise + plan.noise_offset * offset  # crosslabs.org, "Diffusion with offset noise"
        self.timesteps = torch.randint(
            process.num_timesteps, (len(posteriors),), generator=generator(plan.seed, step, "timesteps")
        )


def compute_loss(
    base: Base, plan: TrainPlan, draw: Draw, conditioning: Sequence[Conditioning], device: torch.device
) -> torch.Tensor:
    """Mean squared error of the prediction, weighted per sample by min-SNR where the plan has it."""
    latents, noise, timesteps = (part.to(device) for part in (draw.latents, draw.noise, draw.timesteps))
    noisy = base.process.add_noise(latents, noise, timesteps)
    predicted = base.predict(noisy, timesteps, conditioning).float()
    target = base.process.target(latents, noise, timesteps)
    if plan.min_snr_gamma is None:
        return F.mse_loss(predicted, target)
    per_sample = F.mse_loss(predicted, target, reduction="none").mean(dim=(1, 2, 3))
    return (per_sample * base.process.min_snr_weights(timesteps, plan.min_snr_gamma)).mean()
