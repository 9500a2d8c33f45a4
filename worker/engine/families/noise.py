"""Noise schedules: how images become noise, what the denoiser predicts, and the sampler that inverts it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from worker.engine.families.protocol import NoiseSchedule
from worker.engine.families.recognition import find_prediction_type, read_config


def load_noise_schedule(folder: Path) -> NoiseSchedule:
    """Raises BadInput for an unknown prediction type."""
    config = read_config(folder, "scheduler/scheduler_config.json")
    if find_prediction_type(folder) == "flow":
        return FlowSchedule(config)
    return DiffusionSchedule(DDPMScheduler.from_config(config))


def make_flow_scheduler(shift: float) -> DPMSolverMultistepScheduler:
    """Its first order is Euler's method on the flow. diffusers' FlowMatchEulerDiscreteScheduler takes the same steps,
    but lacks methods that the pipelines with a U-Net need."""
    return DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, solver_order=1, steps_offset=1
    )


def draw_evenly(count: int, rng: torch.Generator) -> torch.Tensor:
    """(count,) in 0..1: uniform, and together spread over the whole range, in random order. A batch that covers all
    noise levels has a steadier gradient (arXiv 2107.00630, appendix I.1)."""
    places = torch.randperm(count, generator=rng) + torch.rand(1, generator=rng)
    return (places / count).float()


class DiffusionSchedule:
    """Discrete-time diffusion with epsilon or v prediction, by the base's own scheduler config, for any size."""

    def __init__(self, scheduler: DDPMScheduler) -> None:
        self._config: Any = scheduler.config
        self._scheduler = scheduler
        self.num_timesteps: int = scheduler.config.num_train_timesteps
        self._predicts_v: bool = scheduler.config.prediction_type == "v_prediction"

    def draw_timesteps(self, count: int, rng: torch.Generator, image_seq_len: int) -> torch.Tensor:
        return (self.num_timesteps * draw_evenly(count, rng)).long().clamp(max=self.num_timesteps - 1)

    def add_noise(self, latents_BCHW: torch.Tensor, noise: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor:
        noisy: torch.Tensor = self._scheduler.add_noise(latents_BCHW, noise, timesteps_B)
        return noisy

    def target(self, latents_BCHW: torch.Tensor, noise: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor:
        if not self._predicts_v:
            return noise
        velocity: torch.Tensor = self._scheduler.get_velocity(latents_BCHW, noise, timesteps_B)
        return velocity

    def predict_x0(self, noisy_BCHW: torch.Tensor, predicted: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor:
        """Not from a timestep that leaves nothing of the image, which epsilon then does not determine: arXiv
        2202.00512, appendix D."""
        alphas = self._alphas(timesteps_B).view(-1, 1, 1, 1)
        if self._predicts_v:
            return alphas.sqrt() * noisy_BCHW - (1 - alphas).sqrt() * predicted
        return (noisy_BCHW - (1 - alphas).sqrt() * predicted) / alphas.sqrt()

    def min_snr_weights(self, timesteps_B: torch.Tensor, gamma: float) -> torch.Tensor:
        """arXiv 2303.09556, section 3.4: min(SNR, gamma) / SNR for epsilon, min(SNR, gamma) / (SNR + 1) for v.

        With a zero terminal SNR, v's weight at the last timestep is 0 and epsilon's would be 0 / 0, taken as 1.
        """
        alphas = self._alphas(timesteps_B).double()
        snr = alphas / (1 - alphas)
        clipped = snr.clamp(max=gamma)
        weights = clipped / (snr + 1) if self._predicts_v else torch.where(snr > 0, clipped / snr, 1.0)
        return weights.float()

    def _alphas(self, timesteps_B: torch.Tensor) -> torch.Tensor:
        """(B,): the remaining share of the image's variance, alpha-bar."""
        alphas: torch.Tensor = self._scheduler.alphas_cumprod.to(timesteps_B.device)
        return alphas[timesteps_B]

    def open_sampler(self, image_seq_len: int) -> DDIMScheduler:
        """DDIM (arXiv 2010.02502) with trailing timesteps (arXiv 2305.08891, section 3.3)."""
        return DDIMScheduler.from_config(self._config, timestep_spacing="trailing", clip_sample=False)


class FlowSchedule:
    """Rectified flow (arXiv 2209.03003): straight lines from images to noise, whose velocity is predicted.

    A timestep is the share of noise, times 1000, and not an integer. Most are drawn from the middle, where the velocity
    is hardest to predict: logit-normal, then shifted as for the base (arXiv 2403.03206, sections 3.1, 5.3.2). The shift
    is a number of the base's scheduler config, or depends on the image's size if that has ``use_dynamic_shifting``.
    """

    num_timesteps = 1000

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Raises ValueError or TypeError for numbers that give no shift."""
        self._config = config
        self._shift = float(config.get("shift") or config.get("flow_shift") or 1.0)
        self._seq_lens = float(config.get("base_image_seq_len", 256)), float(config.get("max_image_seq_len", 4096))
        self._mus = float(config.get("base_shift", 0.5)), float(config.get("max_shift", 1.15))
        if self._seq_lens[0] >= self._seq_lens[1]:
            raise ValueError("base_image_seq_len must be less than max_image_seq_len")

    def find_shift(self, image_seq_len: int) -> float:
        """diffusers' ``calculate_shift`` (pipelines/flux): mu grows linearly with the sequence, and the shift is its
        exponential, or mu itself with a linear ``time_shift_type``."""
        if not self._config.get("use_dynamic_shifting"):
            return self._shift
        (low, high), (least, most) = self._seq_lens, self._mus
        mu = least + (most - least) * (image_seq_len - low) / (high - low)
        return mu if self._config.get("time_shift_type") == "linear" else math.exp(mu)

    def draw_timesteps(self, count: int, rng: torch.Generator, image_seq_len: int) -> torch.Tensor:
        shift = self.find_shift(image_seq_len)
        share = torch.sigmoid(torch.special.ndtri(draw_evenly(count, rng).clamp(1e-6, 1 - 1e-6)))
        return self.num_timesteps * shift * share / (1 + (shift - 1) * share)

    def add_noise(self, latents_BCHW: torch.Tensor, noise: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor:
        share = (timesteps_B / self.num_timesteps).view(-1, 1, 1, 1)
        return torch.lerp(latents_BCHW, noise, share.to(latents_BCHW.dtype))

    def target(self, latents_BCHW: torch.Tensor, noise: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor:
        return noise - latents_BCHW

    def predict_x0(self, noisy_BCHW: torch.Tensor, predicted: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor:
        return noisy_BCHW - (timesteps_B / self.num_timesteps).view(-1, 1, 1, 1) * predicted

    def min_snr_weights(self, timesteps_B: torch.Tensor, gamma: float) -> torch.Tensor:
        raise AssertionError("a plan for a flow base has no min_snr_gamma")

    def open_sampler(self, image_seq_len: int) -> DPMSolverMultistepScheduler:
        return make_flow_scheduler(self.find_shift(image_seq_len))
