"""What the loop asks of a model family, whatever its text encoders, latents or kind of denoiser.

Shapes: B batch, C latent channels, H and W latent height and width. Pictures are float, -1..1.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

Conditioning = Mapping[str, torch.Tensor]
"""What the denoiser is told of one sample: named tensors without a batch dimension, float32."""


@dataclass(frozen=True)
class Posterior:
    """The autoencoder's answer for one picture, scaled as the denoiser expects it: (C, H, W) each."""

    mean: torch.Tensor
    std: torch.Tensor


@dataclass(frozen=True)
class SizeConditioning:
    """How a picture came to its training size, in pixels: families that are told of it (SDXL, arXiv 2307.01952,
    section 2.2) learn not to draw cropped or enlarged pictures."""

    original: tuple[int, int]  # height, width
    crop: tuple[int, int]  # top, left
    target: tuple[int, int]  # height, width


@dataclass(frozen=True)
class SamplingParams:
    """How pictures are drawn from a base: ``width`` and ``height`` in pixels.

    Guidance is applied from the part ``guidance_start`` to the part ``guidance_stop`` of the steps, as by diffusers'
    guiders (``start`` and ``stop``), and not outside (arXiv 2404.07724).
    """

    num_steps: int
    guidance_scale: float
    guidance_rescale: float
    width: int
    height: int
    guidance_start: float = 0.0
    guidance_stop: float = 1.0

    def is_guided(self, step: int) -> bool:
        """``step`` counts from 0."""
        first, end = int(self.guidance_start * self.num_steps), int(self.guidance_stop * self.num_steps)
        return self.guidance_scale > 1 and first <= step < end


class Network(Protocol):
    """A network that adapters may change, and what other tools call it and its layers."""

    @property
    def module(self) -> Any:
        """A torch module; diffusers' and transformers' have no stubs for what peft adds to them."""

    @property
    def kohya_prefix(self) -> str:
        """Such as ``lora_unet`` or ``lora_te1``."""

    @property
    def diffusers_prefix(self) -> str:
        """Such as ``unet`` or ``text_encoder_2``."""

    def list_targets(self, adapter_type: str, targets: str) -> list[str]:
        """Full names of the layers that an adapter of this kind changes."""

    def kohya_path(self, layer: str) -> str:
        """The dotted path behind a layer's name in kohya's files, whose dots become underscores there."""

    def diffusers_path(self, layer: str) -> str:
        """The layer's path in diffusers' files."""


@dataclass(frozen=True)
class TextLimits:
    """How much of a text is encoded: ``num_chunks`` times what the encoders take at once; ``keep`` is never cut."""

    num_chunks: int = 1
    keep: str = ""


class TextEncoders(Protocol):
    """A family's tokenizers and text encoders, in memory while this object lives."""

    networks: Sequence[Network]

    def encode(self, texts: Sequence[str]) -> list[Conditioning]:
        """On the encoders' device. Gradients flow into whatever asks for them. Of texts that take several chunks there
        are longer states."""

    def is_cut(self, text: str) -> bool:
        """Whether the text is longer than the limits, so that not all of it is encoded."""


class NoiseSchedule(Protocol):
    """How pictures become noise, and what the denoiser is to predict."""

    num_timesteps: int

    def draw_timesteps(self, count: int, rng: torch.Generator) -> torch.Tensor:
        """(B,), 0..num_timesteps: on the CPU, as often as training is to see each."""

    def add_noise(self, latents_BCHW: torch.Tensor, noise: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor: ...

    def target(self, latents_BCHW: torch.Tensor, noise: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor: ...

    def predict_x0(self, noisy_BCHW: torch.Tensor, predicted: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor:
        """The latents without noise that a prediction amounts to; with the target as prediction, the true ones."""

    def min_snr_weights(self, timesteps_B: torch.Tensor, gamma: float) -> torch.Tensor: ...

    def open_sampler(self) -> Any:
        """A scheduler of diffusers, with which sample pictures are drawn."""


class Base(Protocol):
    """A loaded base. The denoiser stays in memory between jobs; encoders are opened when needed and dropped."""

    denoiser: Network
    noise_schedule: NoiseSchedule

    def open_text_encoders(self, limits: TextLimits = ...) -> TextEncoders:
        """Read anew from the base's files each time, frozen, in fp32: whatever is done to them is gone with them."""

    def encode_pictures(self, pictures: Iterator[torch.Tensor]) -> Iterator[Posterior]:
        """(3, height, width) each, of any size that the latents' factor divides; the encoder is gone at the end."""

    def encode_size_conditioning(self, framing: SizeConditioning) -> Conditioning:
        """What this family's denoiser is told of a picture's size and crop; empty where it is told nothing."""

    def predict(
        self, noisy_BCHW: torch.Tensor, timesteps_B: torch.Tensor, conditioning: Sequence[Conditioning]
    ) -> torch.Tensor: ...

    def sample(
        self,
        prompts: Sequence[Conditioning],
        negative: Conditioning,
        seeds: Sequence[int],
        params: SamplingParams,
        after_step: Callable[[], None] = ...,
    ) -> torch.Tensor:
        """Latents (B, C, H, W) on the CPU, each drawn from a CPU generator of its own seed, scaled as in training.
        What ``after_step`` raises ends it."""

    def decode(self, latents_BCHW: torch.Tensor) -> list[Image.Image]:
        """The pictures of such latents; the decoder is gone at the end."""

    def draw_with(self, adapter: Path, prompt: str, seed: int, params: SamplingParams) -> Image.Image:
        """As whoever downloads the file would: diffusers' loader reads it, and its pipeline draws. The base is left
        without it."""

    def free(self) -> None:
        """Gives back what opened encoders held on the device."""
