"""The names of the U-Net's layers in Stability's generative-models, which kohya's tools use for the families from it.

That code numbers blocks through: ``input_blocks`` counts the first convolution, then every residual block (with the
attention that follows it) and every downsampler; ``output_blocks`` counts residual blocks, and an upsampler belongs to
the last one of its level. Within a block, 0 is the residual block or downsampler, 1 the attention, and the upsampler
comes last.
"""

import re
from collections.abc import Mapping
from typing import Any

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_TOP = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def to_sgm(config: Mapping[str, Any], layer: str) -> str:
    """``layer`` as diffusers names it, without ``.weight``. ``config`` is the U-Net's. Raises KeyError."""
    if block := _BLOCK.fullmatch(layer):
        side, level, kind, index, rest = block.groups()
        name = _name_down if side == "down" else _name_up
        return name(config, int(level), kind, int(index), rest)
    if middle := _MIDDLE.fullmatch(layer):
        kind, index, rest = middle.groups()
        place = 1 if kind == "attentions" else 2 * int(index)
        return f"middle_block.{place}.{_name_within(kind, rest)}"
    return _TOP[layer]


def _name_down(config: Mapping[str, Any], level: int, kind: str, index: int, rest: str) -> str:
    per_level = config["layers_per_block"] + 1  # the residual blocks and the downsampler
    if kind == "downsamplers":
        return f"input_blocks.{per_level * (level + 1)}.0.{rest.replace('conv', 'op')}"
    return f"input_blocks.{per_level * level + index + 1}.{_PLACE[kind]}.{_name_within(kind, rest)}"


def _name_up(config: Mapping[str, Any], level: int, kind: str, index: int, rest: str) -> str:
    per_level = config["layers_per_block"] + 1  # one residual block more than on the way down
    if kind == "upsamplers":
        place = 2 if "CrossAttn" in config["up_block_types"][level] else 1
        return f"output_blocks.{per_level * level + per_level - 1}.{place}.{rest}"
    return f"output_blocks.{per_level * level + index}.{_PLACE[kind]}.{_name_within(kind, rest)}"


_PLACE = {"resnets": 0, "attentions": 1}


def _name_within(kind: str, rest: str) -> str:
    return _RESNET[rest] if kind == "resnets" else rest
