"""What the loop asks of a model family, whatever its text encoders, latents or kind of denoiser.

Shapes: B batch, C latent channels, H and W latent height and width. Pictures are float, -1..1.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image

Conditioning = Mapping[str, torch.Tensor]
"""What the denoiser is told of one prompt: named tensors without a batch dimension, float32 on the CPU."""


@dataclass(frozen=True)
class Posterior:
    """The autoencoder's answer for one picture, scaled as the denoiser expects it: (C, H, W) each."""

    mean: torch.Tensor
    std: torch.Tensor


class NoiseProcess(Protocol):
    """How pictures become noise, and what the denoiser is to predict."""

    num_timesteps: int

    def add_noise(self, latents_BCHW: torch.Tensor, noise: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor: ...

    def target(self, latents_BCHW: torch.Tensor, noise: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor: ...

    def min_snr_weights(self, timesteps_B: torch.Tensor, gamma: float) -> torch.Tensor: ...


class Base(Protocol):
    """A loaded base. The denoiser stays in memory between jobs; encoders are opened when needed and dropped."""

    denoiser: Any
    """A diffusers ModelMixin with PEFT's adapter methods; they have no stubs."""
    process: NoiseProcess
    kohya_prefix: str
    """Of the denoiser's keys in kohya's files, such as ``lora_unet``."""
    diffusers_prefix: str
    """Of the denoiser's keys in diffusers' files, such as ``unet``."""

    def list_targets(self, adapter_type: str, targets: str) -> list[str]:
        """Full names of the denoiser's layers that an adapter of this kind changes."""

    def encode_texts(self, texts: Sequence[str]) -> Iterator[Conditioning]:
        """One at a time; the text encoder is gone from memory when the iterator ends."""

    def encode_pictures(self, pictures: Iterator[torch.Tensor]) -> Iterator[Posterior]:
        """(3, height, width) each, of any size that the latents' factor divides; the encoder is gone at the end."""

    def predict(
        self, noisy_BCHW: torch.Tensor, timesteps_B: torch.Tensor, conditioning: Sequence[Conditioning]
    ) -> torch.Tensor: ...

    def sample(
        self,
        prompts: Sequence[Conditioning],
        empty: Conditioning,
        *,
        seeds: Sequence[int],
        num_steps: int,
        guidance_scale: float,
        side: int,
    ) -> list[Image.Image]:
        """One square picture per prompt, ``side`` pixels wide, each from a CPU generator of its own seed."""
