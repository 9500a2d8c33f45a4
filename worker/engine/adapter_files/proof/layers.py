"""The layers of a base that an adapter can change, and their names in the original code.

Nothing here is shared with the exporter: a check against the exporter's own table would prove nothing.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from core.domain.model import Family
from worker.engine.families.protocol import Network
from worker.engine.families.registry import FAMILIES, build_networks
from worker.engine.families.spec import ToolRules

Shape = tuple[int, ...]

TEXT_PROJECTION = "text_projection"
"""CLIP's projection of its pooled output, outside its blocks."""


@dataclass(frozen=True)
class Layer:
    """``part`` is diffusers' name of the network, ``path`` the layer's in it; CLIP's paths begin with text_model."""

    part: str
    path: str


@dataclass(frozen=True)
class BaseLayers:
    """Every Linear and convolution of a base's networks with the shape of its weight."""

    family: str
    shapes: Mapping[Layer, Shape]

    @property
    def rules(self) -> ToolRules:
        return FAMILIES[self.family].tools

    @property
    def denoiser(self) -> str:
        return FAMILIES[self.family].denoiser.name

    @property
    def text_encoders(self) -> list[str]:
        return [part.name for part in FAMILIES[self.family].text_encoders]

    def denoiser_paths(self) -> list[str]:
        return self.paths(self.denoiser)

    def paths(self, part: str) -> list[str]:
        return [layer.path for layer in self.shapes if layer.part == part]


def list_layers(family: str, networks: Iterable[Network]) -> BaseLayers:
    """``networks``: the base's, on any device (also meta)."""
    denoiser = FAMILIES[family].denoiser.name
    shapes = {
        Layer(part, path if part == denoiser else full_text_path(path)): tuple(module.weight.shape)
        for part, network in ((network.diffusers_prefix, network.module) for network in networks)
        for path, module in network.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }
    return BaseLayers(family, shapes)


def read_layers(family: Family, folder: Path) -> BaseLayers:
    """By the configuration of the base in ``folder``. Raises BadInput."""
    return list_layers(family, build_networks(family, folder))


def full_text_path(path: str) -> str:
    """transformers 5.23 dropped ``text_model.`` from CLIPTextModel's own paths; every file still has it."""
    return path if path.startswith(("text_model.", TEXT_PROJECTION)) else f"text_model.{path}"


def spell_original(base: BaseLayers) -> dict[str, str]:
    """diffusers' path -> the path in the original code (ldm or sgm).

    That code has one flat list on the way down and one on the way up. Going down, each level has its residual blocks
    and then its downsampler; going up, one residual block more, and the upsampler belongs to the last one.
    """
    paths = base.denoiser_paths()
    per_level = 1 + max((int(found[1]) for found in _find(r"down_blocks\.0\.resnets\.(\d+)\.", paths)), default=0)
    attended = {int(found[1]) for found in _find(r"up_blocks\.(\d+)\.attentions\.", paths)}
    return {path: _spell(path, per_level, attended) for path in paths}


def _find(pattern: str, paths: list[str]) -> list[re.Match[str]]:
    return [found for path in paths if (found := re.match(pattern, path))]


_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_INSIDE_RESIDUAL = (
    ("conv1", "in_layers.2"),
    ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"),
    ("conv_shortcut", "skip_connection"),
)


def _spell(path: str, per_level: int, attended: set[int]) -> str:
    if path in _OUTSIDE:
        return _OUTSIDE[path]
    block, _, rest = path.partition(".")
    if block == "mid_block":
        kind, index, inner = rest.split(".", 2)
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(index)}.{_inner(kind, inner)}"
    level, kind, index, inner = rest.split(".", 3)
    stride = per_level + 1
    if kind == "downsamplers":
        return f"input_blocks.{(int(level) + 1) * stride}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{(int(level) + 1) * stride - 1}.{2 if int(level) in attended else 1}.conv"
    place = int(level) * stride + int(index) + (1 if block == "down_blocks" else 0)
    side = "input_blocks" if block == "down_blocks" else "output_blocks"
    return f"{side}.{place}.{1 if kind == 'attentions' else 0}.{_inner(kind, inner)}"


def _inner(kind: str, inner: str) -> str:
    return dict(_INSIDE_RESIDUAL).get(inner, inner) if kind == "resnets" else inner
