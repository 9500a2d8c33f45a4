"""A base's peaks of memory, traced once when it was registered (worker/engine/memory), as its card keeps them."""

from typing import Literal

from pydantic import Field

from core.domain.base import Frozen

Numerics = Literal["fp32", "cpu16", "cuda16"]
"""Which precision each operation has: fp32 everywhere, or autocast to 16 bits by the CPU's rules or by CUDA's."""


class Peak(Frozen):
    """Bytes beside the networks' weights: ``fixed``, and those of each sample at the table's resolution."""

    fixed: int = 0
    per_sample: int

    def at(self, num_samples: float) -> int:
        """``num_samples`` of the table's resolution: one of twice the area counts as two."""
        return self.fixed + round(self.per_sample * num_samples)


class Passes(Frozen):
    """A pass through the networks by one kind of numerics, with a LoRA on the attention layers."""

    step: Peak = Field(description="Forward and backward.")
    checkpointed_step: Peak = Field(description="The same with gradient checkpointing.")
    prediction: Peak = Field(description="Forward alone, as samples and held-out losses need it.")
    decoding: Peak = Field(description="The autoencoder's, of one image.")


class MemoryTable(Frozen):
    """``adapter_factors["locon/all"]`` (type and targets): a step's memory with such an adapter, as a multiple of that
    with a LoRA on the attention layers; both without the adapter's own weights."""

    resolution: int
    text_encoder_parameters: int
    vae_parameters: int
    largest_layer: int = Field(description="The weights of the denoiser's largest layer.")
    passes: dict[Numerics, Passes]
    adapter_factors: dict[str, float]
    encoding: Peak = Field(description="The autoencoder's, of one image, in fp32: in bf16 it is less.")
    text_encoding: Peak = Field(description="The text encoders', of one text of 75 tokens, in fp32.")
    text_step: Peak = Field(description="Theirs while they are trained, in 16 bits.")
