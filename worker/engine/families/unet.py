"""UNet2DConditionModel as a network that adapters may change, and the layout of its blocks."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

_ATTENTION = r"attn[12]\.(to_q|to_k|to_v|to_out\.0)"
_FEED_FORWARD = r"ff\.net\.(0\.proj|2)"
_PROJECTION = r"proj_(in|out)"
_CONVOLUTION = r"(conv1|conv2|conv_shortcut|time_emb_proj|downsamplers\.0\.conv|upsamplers\.0\.conv)"

_TARGETS = {
    "attention": (_ATTENTION,),
    "attention_ff": (_ATTENTION, _FEED_FORWARD),
    "all": (_ATTENTION, _FEED_FORWARD, _PROJECTION),
}


UNET_SPELLINGS = (
    "model.diffusion_model.",
    "diffusion_model.",
    "lora_unet_",
    "lora_unet.",
    "lycoris_",
    "unet.",
)
"""The prefixes of a U-Net's layers in adapters of any tool."""


@dataclass(frozen=True)
class Level:
    """One level on the way down: its width, and the number of transformer blocks after each of its layers."""

    width: int
    depths: tuple[int, ...]


@dataclass(frozen=True)
class UnetLayout:
    """``text_width``: the input width of cross-attention, None without any. ``added_width``: that of the added
    embedding of sizes and pooled text. ``linear``: whether the transformers' projections are matrices, not 1x1
    convolutions."""

    levels: tuple[Level, ...]
    text_width: int | None
    added_width: int | None
    linear: bool

    @property
    def depths(self) -> list[int]:
        return [depth for level in self.levels for depth in level.depths]

    @property
    def layers_per_block(self) -> int:
        return max((len(level.depths) for level in self.levels), default=0)


def published_levels(*depths: tuple[int, ...]) -> tuple[Level, ...]:
    """The published bases' levels: all have these widths, as many as there are ``depths``."""
    return tuple(Level(width, own) for width, own in zip((320, 640, 1280, 1280), depths, strict=False))


def same(layer: str) -> str:
    return layer


@dataclass(frozen=True)
class UnetNetwork:
    module: Any
    rename_for_kohya: Callable[[str], str] = same
    kohya_prefix: str = "lora_unet"
    diffusers_prefix: str = "unet"

    def list_targets(self, adapter_type: str, targets: str) -> list[str]:
        return list_unet_targets(self.module, adapter_type, targets)

    def kohya_path(self, layer: str) -> str:
        return self.rename_for_kohya(layer)

    def diffusers_path(self, layer: str) -> str:
        return layer


def list_unet_targets(unet: torch.nn.Module, adapter_type: str, targets: str) -> list[str]:
    """On SD 1.x: 128 layers for attention, 160 with feed-forward, 192 for all; locon adds the residual blocks and
    samplers, as sd-scripts' LoCon does with a conv_dim. dora changes the same layers as lora."""
    inner = [rf".*\battentions\.\d+\.(.*\.)?{part}" for part in _TARGETS[targets]]
    if adapter_type == "locon":
        inner.append(rf".*\b(resnets\.\d+\.)?{_CONVOLUTION}")
    pattern = re.compile("|".join(f"(?:{part})" for part in inner))
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return [name for name, module in unet.named_modules() if isinstance(module, kinds) and pattern.fullmatch(name)]
