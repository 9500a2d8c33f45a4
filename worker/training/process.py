"""Noise processes: how pictures become noise, and what the denoiser is to predict."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler


class DiffusionProcess:
    """Discrete-time diffusion with epsilon or v prediction, by the base's own scheduler config."""

    def __init__(self, scheduler: DDPMScheduler) -> None:
        self.config: Any = scheduler.config
        self._scheduler = scheduler
        self.num_timesteps: int = scheduler.config.num_train_timesteps
        self._predicts_v: bool = scheduler.config.prediction_type == "v_prediction"

    @classmethod
    def from_folder(cls, folder: Path) -> "DiffusionProcess":
        """Raises ValueError for a kind of prediction that is not known."""
        scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler", local_files_only=True)
        if scheduler.config.prediction_type not in {"epsilon", "v_prediction"}:
            raise ValueError(f"prediction_type {scheduler.config.prediction_type} is neither epsilon nor v_prediction")
        return cls(scheduler)

    def add_noise(self, latents_BCHW: torch.Tensor, noise: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor:
        noisy: torch.Tensor = self._scheduler.add_noise(latents_BCHW, noise, timesteps_B)
        return noisy

    def target(self, latents_BCHW: torch.Tensor, noise: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor:
        if not self._predicts_v:
            return noise
        velocity: torch.Tensor = self._scheduler.get_velocity(latents_BCHW, noise, timesteps_B)
        return velocity

    def min_snr_weights(self, timesteps_B: torch.Tensor, gamma: float) -> torch.Tensor:
        """arXiv 2303.09556, section 3.4: min(SNR, gamma) / SNR for epsilon, min(SNR, gamma) / (SNR + 1) for v.

        With a zero terminal SNR, v's weight at the last timestep is 0 and epsilon's would be 0 / 0, taken as 1.
        """
        alphas = self._scheduler.alphas_cumprod.to(timesteps_B.device)[timesteps_B].double()
        snr = alphas / (1 - alphas)
        clipped = snr.clamp(max=gamma)
        weights = clipped / (snr + 1) if self._predicts_v else torch.where(snr > 0, clipped / snr, 1.0)
        return weights.float()
