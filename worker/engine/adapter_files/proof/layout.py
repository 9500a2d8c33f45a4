"""The layout of a base's U-Net, and which tools open such a base at all."""

import re
from collections import defaultdict

from core.domain.proof import Tool
from worker.engine.adapter_files.proof.layers import BaseLayers, Layer
from worker.engine.families.unet import Level, UnetLayout


def describe_layout(base: BaseLayers) -> UnetLayout:
    shapes = {layer.path: shape for layer, shape in base.shapes.items() if layer.part == base.denoiser}
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
    return UnetLayout(
        levels=tuple(
            Level(widths[level], tuple(len(blocks.get((level, layer), ())) for layer in sorted(layers[level])))
            for level in sorted(widths)
        ),
        text_width=readers[0] if readers else None,
        added_width=added[1] if added else None,
        linear=2 in projections,
    )


def is_published(base: BaseLayers) -> bool:
    return describe_layout(base) == base.rules.published


def why_not_opened(tool: Tool, base: BaseLayers) -> str:
    """Why the tool opens no such base, so that no adapter of it can load there; empty if it does.

    ComfyUI identifies bases by the first layer's width, the text's, the projections, the added embedding and, for some
    families, the transformers' depths (``detect_unet_config`` and ``BASE.matches``), not by the layers a block.
    sd-scripts has U-Nets of its own, with two layers a block. A1111 accepts any, with a configuration beside the file.
    """
    found, published = describe_layout(base), base.rules.published
    if tool in ("diffusers", "a1111"):
        return ""
    if tool == "sd-scripts":
        return "" if found == published else _NOT_SD_SCRIPTS.format(family=base.family)
    return "" if _is_known_to_comfyui(base, found, published) else _describe_unknown(base, found, published)


_NOT_SD_SCRIPTS = (
    "sd-scripts opens no such base: its own U-Net for {family} has the published bases' widths and two layers a block"
)


def _is_known_to_comfyui(base: BaseLayers, found: UnetLayout, published: UnetLayout) -> bool:
    first = base.shapes.get(Layer(base.denoiser, "conv_in"))
    sizes = (first and first[0], found.text_width, found.linear, found.added_width)
    published_sizes = (320, published.text_width, published.linear, published.added_width)
    depths = base.rules.comfyui_depths
    return sizes == published_sizes and (depths is None or found.depths in depths)


def _describe_unknown(base: BaseLayers, found: UnetLayout, published: UnetLayout) -> str:
    first = found.levels[0].width if found.levels else 0
    if (first, found.text_width) == (320, published.text_width):
        return f"comfyui opens no {base.family} base with these transformers"
    return (
        f"comfyui opens no such base: it knows {base.family} by 320 channels and text of width "
        f"{published.text_width}, and this one has {first} and {found.text_width}"
    )
