"""The loss on held-out images, always with the same noise and timesteps, so that its values are comparable.

The training loss is not: it jumps with the timesteps that a step happens to draw. Here the timesteps are the middles
of equal parts of the schedule, all of them for each image. The loss compares the image that a prediction implies, not
the noise or the velocity that the base predicts: with little noise left, a wrong prediction is almost no error in the
image, and people look at the image (docs/adr/0006-which-step-is-promoted.md).
"""

import torch

from core.domain.memory import NUM_VALIDATION_TIMESTEPS as NUM_TIMESTEPS
from core.domain.plan import TrainPlan
from worker.engine.draws import generator
from worker.engine.families.protocol import Base, Conditioning
from worker.engine.observer import Observer, raise_if_stopped
from worker.engine.training.data import Cache
from worker.engine.training.objective import per_sample_loss


class HeldOut:
    """The held-out images with their fixed draws. ``texts`` are their captions."""

    def __init__(self, base: Base, plan: TrainPlan, cache: Cache) -> None:
        self._base, self._plan = base, plan
        indices = [index for index, image in enumerate(plan.images) if image.held_out]
        self._examples = [cache.examples[index, False] for index in indices]
        self.texts = [cache.captions[index][0] for index in indices]
        total = base.noise_schedule.num_timesteps
        self._timesteps = torch.tensor([(2 * k + 1) * total // (2 * NUM_TIMESTEPS) for k in range(NUM_TIMESTEPS)])

    @torch.no_grad()
    def measure(self, conditioning: list[Conditioning], device: torch.device, observer: Observer) -> list[float]:
        """Each image's loss, on latents without noise, as the mean over its timesteps. A unit is an image."""
        losses = []
        for number, example in enumerate(self._examples):
            latents = example.posterior.mean.expand(NUM_TIMESTEPS, -1, -1, -1)
            noise = torch.randn(latents.shape, generator=generator(self._plan.seed, number, "held-out"))
            latents, noise, timesteps = (part.to(device) for part in (latents, noise, self._timesteps))
            noisy = self._base.noise_schedule.add_noise(latents, noise, timesteps)
            row = {**conditioning[number], **example.size_conditioning}
            predicted = self._base.predict(noisy, timesteps, [row] * NUM_TIMESTEPS).float()
            mask = None if example.mask is None else example.mask.expand(NUM_TIMESTEPS, -1, -1, -1)
            denoised = self._base.noise_schedule.predict_x0(noisy, predicted, timesteps)
            losses.append(per_sample_loss(self._plan, denoised, latents, mask).mean().item())
            observer.unit(number + 1, len(self._examples))
            raise_if_stopped(observer)
        return losses
