"""The random part of a step, and the loss."""

from collections.abc import Sequence
from copy import copy

import torch

from core.domain.plan import TrainPlan
from worker.engine.draws import generator
from worker.engine.families.protocol import Base, Conditioning
from worker.engine.training.data import Example


class NoisedBatch:
    """The random part of one micro-batch: posterior samples, noise and timesteps, all from keyed generators. ``stream``
    separates the draws of training from those of prior preservation."""

    def __init__(self, plan: TrainPlan, base: Base, step: int, examples: Sequence[Example], stream: str = "") -> None:
        posteriors = [example.posterior for example in examples]
        shape = (len(posteriors), *posteriors[0].mean.shape)
        spread = torch.randn(shape, generator=generator(plan.seed, step, f"{stream}posterior"))
        self.latents = torch.stack([row.mean for row in posteriors]) + spread * torch.stack(
            [row.std for row in posteriors]
        )
        self.noise = torch.randn(shape, generator=generator(plan.seed, step, f"{stream}noise"))
        if plan.noise_offset:
            offset = torch.randn((*shape[:2], 1, 1), generator=generator(plan.seed, step, f"{stream}offset"))
            self.noise = self.noise + plan.noise_offset * offset  # crosslabs.org, "Diffusion with offset noise"
        rng = generator(plan.seed, step, f"{stream}timesteps")
        image_seq_len = base.image_seq_len(*shape[2:])
        self.timesteps = base.noise_schedule.draw_timesteps(len(posteriors), rng, image_seq_len)
        self.masks = _stack_masks([example.mask for example in examples], shape) if plan.masks else None
        self.weights = torch.tensor([example.weight for example in examples])

    def subset(self, part: slice) -> "NoisedBatch":
        """Some of the samples, with their draws."""
        chosen = copy(self)
        chosen.latents, chosen.noise, chosen.timesteps = self.latents[part], self.noise[part], self.timesteps[part]
        chosen.masks = None if self.masks is None else self.masks[part]
        chosen.weights = self.weights[part]
        return chosen

    def noisy_latents(self, base: Base, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """The noisy latents and their timesteps."""
        latents, noise, timesteps = (part.to(device) for part in (self.latents, self.noise, self.timesteps))
        return base.noise_schedule.add_noise(latents, noise, timesteps), timesteps

    def predict(self, base: Base, conditioning: Sequence[Conditioning], device: torch.device) -> torch.Tensor:
        """The denoiser's prediction, in fp32."""
        return base.predict(*self.noisy_latents(base, device), conditioning).float()

    def target(self, base: Base, device: torch.device) -> torch.Tensor:
        return base.noise_schedule.target(*(part.to(device) for part in (self.latents, self.noise, self.timesteps)))


def _stack_masks(masks: Sequence[torch.Tensor | None], shape: Sequence[int]) -> torch.Tensor | None:
    if all(mask is None for mask in masks):
        return None
    return torch.stack([torch.ones(1, *shape[2:]) if mask is None else mask for mask in masks])


def compute_loss(
    base: Base, plan: TrainPlan, batch: NoisedBatch, conditioning: Sequence[Conditioning], device: torch.device
) -> torch.Tensor:
    """The mean of the samples' losses, each weighted by min-SNR if the plan has it, and by its dataset's weight."""
    predicted = batch.predict(base, conditioning, device)
    per_sample = per_sample_loss(plan, predicted, batch.target(base, device), batch.masks)
    weighted = apply_min_snr(base, plan, per_sample, batch.timesteps.to(device))
    return (weighted * batch.weights.to(device)).mean()


def apply_min_snr(base: Base, plan: TrainPlan, losses_B: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor:
    if plan.min_snr_gamma is None:
        return losses_B
    return losses_B * base.noise_schedule.min_snr_weights(timesteps_B, plan.min_snr_gamma)


def compute_prior_loss(
    base: Base,
    plan: TrainPlan,
    batch: NoisedBatch,
    conditioning: Sequence[Conditioning],
    teacher_prediction: torch.Tensor,
    device: torch.device,
) -> torch.Tensor:
    """The distance of the prediction from ``teacher_prediction``, the base's own for the same noisy class images."""
    return per_sample_loss(plan, batch.predict(base, conditioning, device), teacher_prediction, None).mean()


def per_sample_loss(
    plan: TrainPlan, predicted: torch.Tensor, target: torch.Tensor, masks_B1HW: torch.Tensor | None
) -> torch.Tensor:
    """(B,): squared error, or sd-scripts' pseudo-Huber ``2c (sqrt(x^2 + c^2) - c)``. With a mask, each sample's mean is
    over the weighted area, so a small subject weighs no less than a large one."""
    error = (predicted - target).square()
    if plan.loss_type == "huber":
        error = 2 * plan.huber_c * ((error + plan.huber_c**2).sqrt() - plan.huber_c)
    if masks_B1HW is None:
        return error.mean(dim=(1, 2, 3))
    masks = masks_B1HW.to(error.device).expand_as(error)
    return (error * masks).sum(dim=(1, 2, 3)) / masks.sum(dim=(1, 2, 3)).clamp(min=1e-6)
