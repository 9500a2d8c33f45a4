"""The interface of a model family to the loop, for any text encoders, latents or denoiser.

Shapes: B batch, C latent channels, H and W latent height and width. Images are float, -1..1.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

Conditioning = Mapping[str, torch.Tensor]
"""The denoiser's conditioning for one sample: named tensors without a batch dimension, float32."""


@dataclass(frozen=True)
class Posterior:
    """The autoencoder's output for one image, scaled as the denoiser expects it: (C, H, W) each."""

    mean: torch.Tensor
    std: torch.Tensor


@dataclass(frozen=True)
class SizeConditioning:
    """How an image was fitted to its training size, in pixels: families that are conditioned on it (arXiv 2307.01952,
    section 2.2) learn not to draw cropped or enlarged images."""

    original: tuple[int, int]  # height, width
    crop: tuple[int, int]  # top, left
    target: tuple[int, int]  # height, width


@dataclass(frozen=True)
class SamplingParams:
    """How images are drawn from a base: ``width`` and ``height`` in pixels.

    Guidance is applied from the fraction ``guidance_start`` to the fraction ``guidance_stop`` of the steps, as by
    diffusers' guiders (``start`` and ``stop``), and not outside (arXiv 2404.07724).
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
    """A network that adapters may change, and the names of it and its layers in other tools."""

    @property
    def module(self) -> Any:
        """A torch module; peft's additions to diffusers' and transformers' networks have no stubs."""

    @property
    def kohya_prefix(self) -> str:
        """Such as ``lora_unet`` or ``lora_te1``."""

    @property
    def diffusers_prefix(self) -> str:
        """Such as ``unet`` or ``text_encoder_2``."""

    def list_targets(self, adapter_type: str, targets: str) -> list[str]:
        """Full names of the layers that an adapter of this type changes."""

    def kohya_path(self, layer: str) -> str:
        """The dotted path for a layer's name in kohya's files, where dots become underscores."""

    def diffusers_path(self, layer: str) -> str:
        """The layer's path in diffusers' files."""


@dataclass(frozen=True)
class TextLimits:
    """How much of a text is encoded: ``num_chunks`` times the encoders' input; ``keep`` is never cut."""

    num_chunks: int = 1
    keep: str = ""


class TextEncoders(Protocol):
    """A family's tokenizers and text encoders, in memory while this object lives."""

    networks: Sequence[Network]
    conditioning_dtype: torch.dtype
    """The precision in which the conditioning of texts is kept: float32, or less where it is large."""

    def encode(self, texts: Sequence[str]) -> list[Conditioning]:
        """On the encoders' device. Gradients flow to trained parameters. Texts of several chunks have longer states."""

    def is_cut(self, text: str) -> bool:
        """Whether the text is longer than the limits, so that not all of it is encoded."""


class NoiseSchedule(Protocol):
    """How images become noise, and the denoiser's target."""

    num_timesteps: int

    def draw_timesteps(self, count: int, rng: torch.Generator, image_seq_len: int) -> torch.Tensor:
        """(B,), 0..num_timesteps: on the CPU, with the frequency of training. ``image_seq_len``: the positions of the
        denoiser's input, for larger images need more noise to be hidden."""

    def add_noise(self, latents_BCHW: torch.Tensor, noise: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor: ...

    def target(self, latents_BCHW: torch.Tensor, noise: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor: ...

    def predict_x0(self, noisy_BCHW: torch.Tensor, predicted: torch.Tensor, timesteps_B: torch.Tensor) -> torch.Tensor:
        """The noiseless latents that a prediction implies; with the target as prediction, the true ones."""

    def min_snr_weights(self, timesteps_B: torch.Tensor, gamma: float) -> torch.Tensor: ...

    def open_sampler(self, image_seq_len: int) -> Any:
        """A scheduler of diffusers, which draws the sample images."""


class Base(Protocol):
    """A loaded base. The denoiser stays in memory between jobs; encoders are opened when needed and dropped."""

    folder: Path
    denoiser: Network
    noise_schedule: NoiseSchedule
    latent_factor: int
    """Pixels of an image's side for each latent."""

    def image_seq_len(self, latent_height: int, latent_width: int) -> int:
        """The positions of the denoiser's input for such latents."""

    def open_text_encoders(self, limits: TextLimits = ...) -> TextEncoders:
        """Read again from the base's files each time, frozen, in fp32: changes to them are lost with them."""

    def encode_images(self, images: Iterator[torch.Tensor]) -> Iterator[Posterior]:
        """(3, height, width) each, of any size that the latents' factor divides; the encoder is dropped at the end."""

    def encode_size_conditioning(self, framing: SizeConditioning) -> Conditioning:
        """This family's conditioning on an image's size and crop; empty if it has none."""

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
        """Latents (B, C, H, W) on the CPU, each drawn from a CPU generator with its own seed, scaled as in training. An
        exception from ``after_step`` ends it."""

    def features(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, D): what two samples' distance is measured by, from latents as ``sample`` gives them."""

    def decode(self, latents_BCHW: torch.Tensor) -> list[Image.Image]:
        """The images of such latents; the decoder is dropped at the end."""

    def free(self) -> None:
        """Frees the opened encoders' memory on the device."""
