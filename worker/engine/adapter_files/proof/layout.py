"""The layout of a base's U-Net, and which tools open such a base at all."""

import re
from collections import defaultdict
from dataclasses import dataclass

from core.domain.proof import Tool
from worker.engine.adapter_files.proof.layers import UNET, BaseLayers, Layer


@dataclass(frozen=True)
class Level:
    """One level on the way down: its width, and the number of transformer blocks after each of its layers."""

    width: int
    depths: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """``text_width``: the input width of cross-attention, None without any. ``added_width``: that of SDXL's added
    embedding. ``linear``: whether the transformers' projections are matrices, not 1x1 convolutions."""

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


def describe_layout(base: BaseLayers) -> Layout:
    shapes = {layer.path: shape for layer, shape in base.shapes.items() if layer.part == UNET}
    widths: dict[int, int] = {}
    layers: dict[int, set[int]] = defaultdict(set)
    blocks: dict[tuple[int, int], set[int]] = defaultdict(set)
    for path, shape in shapes.items():
        if found := re.fullmatch(r"down_blocks\.(\d+)\.resnets\.(\d+)\.conv1", path):
            widths[int(found[1])] = shape[0]
            layers[int(found[1])].add(int(found[2]))
        if found := re.match(r"down_blocks\.(\d+)\.attentions\.(\d+)\.transformer_blocks\.(\d+)\.", path):
            blocks[int(found[1]), int(found[2])].add(int(found[3]))
    readers = [shape[1] for path, shape in shapes.items() if path.endswith(".attn2.to_k")]
    projections = [len(shape) for path, shape in shapes.items() if path.endswith(".proj_in")]
    added = shapes.get("add_embedding.linear_1")
    return Layout(
        levels=tuple(
            Level(widths[level], tuple(len(blocks.get((level, layer), ())) for layer in sorted(layers[level])))
            for level in sorted(widths)
        ),
        text_width=readers[0] if readers else None,
        added_width=added[1] if added else None,
        linear=2 in projections,
    )


def _levels(depths: tuple[tuple[int, ...], ...]) -> tuple[Level, ...]:
    widths = (320, 640, 1280, 1280)
    return tuple(Level(width, own) for width, own in zip(widths, depths, strict=False))


PUBLISHED = {
    "sd1": Layout(_levels(((1, 1), (1, 1), (1, 1), (0, 0))), 768, None, linear=False),
    "sd2": Layout(_levels(((1, 1), (1, 1), (1, 1), (0, 0))), 1024, None, linear=True),
    "sdxl": Layout(_levels(((0, 0), (2, 2), (10, 10))), 2048, 2816, linear=True),
}
"""The published bases' layouts, which sd-scripts and A1111 build (library/original_unet.py, sdxl_original_unet.py;
configs/v1-inference.yaml and the like)."""

_COMFYUI_SDXL_DEPTHS = ([0, 0, 2, 2, 10, 10], [0, 0, 2, 2, 4, 4], [0, 0, 1, 1, 2, 2], [0, 2, 5], [0, 2, 6])
"""The depths of SDXL, SSD-1B, Segmind Vega, KOALA 700M and 1B (comfy/supported_models.py)."""


def is_published(base: BaseLayers) -> bool:
    return describe_layout(base) == PUBLISHED.get(base.family)


def why_not_opened(tool: Tool, base: BaseLayers) -> str:
    """Why the tool opens no such base, so that no adapter of it can load there; empty if it does.

    ComfyUI identifies bases by the first layer's width, the text's, the projections, the added embedding and, for SDXL,
    the transformers' depths (``detect_unet_config`` and ``BASE.matches``), not by the number of layers a block.
    sd-scripts has U-Nets of its own, with two layers a block. A1111 accepts any, with a configuration beside the file.
    """
    found, published = describe_layout(base), PUBLISHED.get(base.family)
    if published is None or tool in ("diffusers", "a1111"):
        return ""
    if tool == "sd-scripts":
        return "" if found == published else _NOT_SD_SCRIPTS.format(family=base.family)
    return "" if _is_known_to_comfyui(base, found, published) else _describe_unknown(base, found, published)


_NOT_SD_SCRIPTS = (
    "sd-scripts opens no such base: its own U-Net for {family} has the published bases' widths and two layers a block"
)


def _is_known_to_comfyui(base: BaseLayers, found: Layout, published: Layout) -> bool:
    first = base.shapes.get(Layer(UNET, "conv_in"))
    sizes = (first and first[0], found.text_width, found.linear, found.added_width)
    published_sizes = (320, published.text_width, published.linear, published.added_width)
    return sizes == published_sizes and (base.family != "sdxl" or found.depths in _COMFYUI_SDXL_DEPTHS)


def _describe_unknown(base: BaseLayers, found: Layout, published: Layout) -> str:
    first = found.levels[0].width if found.levels else 0
    if (first, found.text_width) == (320, published.text_width):
        return f"comfyui opens no {base.family} base with these transformers"
    return (
        f"comfyui opens no such base: it knows {base.family} by 320 channels and text of width "
        f"{published.text_width}, and this one has {first} and {found.text_width}"
    )
