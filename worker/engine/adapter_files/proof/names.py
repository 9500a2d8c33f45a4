"""The names by which each tool finds a base's layers: written from the tools' code, and checked against lists made by
running them (tests/worker/engine/golden)."""

import re
from collections.abc import Callable, Mapping

from core.domain.proof import Tool
from worker.engine.adapter_files.proof.layers import TEXT_PROJECTION, BaseLayers, Layer, spell_original

Names = Mapping[str, Layer]

_IN_BLOCKS = re.compile(r"(down_blocks|mid_block|up_blocks)\.")
_CLIP_LAYER = re.compile(r"text_model\.encoder\.layers\.\d+\.(self_attn|mlp)\.")


def list_names(tool: Tool, base: BaseLayers) -> Names:
    return _SPELLERS[tool](base)


def _flat(prefix: str, path: str) -> str:
    return f"{prefix}_{path.replace('.', '_')}"


def _unet(base: BaseLayers, spell: Callable[[str], str]) -> dict[str, Layer]:
    return {spell(path): Layer(base.denoiser, path) for path in base.denoiser_paths()}


def _texts(base: BaseLayers, part: str, spell: Callable[[str], str]) -> dict[str, Layer]:
    """Only the layers within CLIP's blocks: no tool here adapts the embeddings."""
    return {spell(path): Layer(part, path) for path in base.paths(part) if _CLIP_LAYER.match(path)}


def _dotted_texts(base: BaseLayers) -> dict[str, Layer]:
    found: dict[str, Layer] = {}
    for part in base.text_encoders:
        found |= _texts(base, part, lambda path, part=part: f"{part}.{path}")  # type: ignore[misc]
    return found


def _flat_texts(base: BaseLayers, tool: Tool) -> dict[str, Layer]:
    found: dict[str, Layer] = {}
    for prefix, part in base.rules.text_names[tool].items():
        found |= _texts(base, part, lambda path, prefix=prefix: _flat(prefix, path))  # type: ignore[misc]
    return found


def _spell_sd_scripts(base: BaseLayers) -> dict[str, Layer]:
    """It has its own U-Nets: with diffusers' names, or with sgm's, for which it renames diffusers' names on reading. It
    adapts only layers in blocks, none before or after them."""
    found = {_flat("lora_unet", path): layer for path, layer in _unet(base, str).items() if _IN_BLOCKS.match(path)}
    if "sd-scripts" in base.rules.reads_original:
        original = spell_original(base)
        found |= {_flat("lora_unet", original[layer.path]): layer for layer in found.values()}
    return found | _flat_texts(base, "sd-scripts")


def _spell_a1111(base: BaseLayers) -> dict[str, Layer]:
    """It runs the original code, so the original's names always work. It renames diffusers' names by fixed arithmetic
    for two layers a block (extensions-builtin/Lora/networks.py, convert_diffusers_name_to_compvis): on other bases they
    lead to other layers, or to none."""
    original = spell_original(base)
    by_original = _unet(base, lambda path: original[path])
    found = {_flat("lora_unet", name): layer for name, layer in by_original.items()}
    for path in base.denoiser_paths():
        if (renamed := rename_as_a1111(path)) in by_original:
            found[_flat("lora_unet", path)] = by_original[renamed]
    return found | _flat_texts(base, "a1111")


_A1111_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
}
_A1111_WITHIN = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_IN_LEVEL = re.compile(r"(down|up)_blocks\.(\d+)\.(attentions|resnets|downsamplers|upsamplers)\.(\d+)\.(.+)")
_IN_MIDDLE = re.compile(r"mid_block\.(attentions|resnets)\.(\d+)\.(.+)")


def rename_as_a1111(path: str) -> str:
    """The name under which A1111 looks for a layer that diffusers calls ``path``; empty if there is none."""
    if middle := _IN_MIDDLE.fullmatch(path):
        place = 1 if middle[1] == "attentions" else 2 * int(middle[2])
        return f"middle_block.{place}.{_within_as_a1111(middle[1], middle[3])}"
    if not (level := _IN_LEVEL.fullmatch(path)):
        return _A1111_OUTSIDE.get(path, "")
    block, kind, index = int(level[2]), level[3], int(level[4])
    if kind == "downsamplers":
        return f"input_blocks.{3 + 3 * block}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{2 + 3 * block}.{2 if block else 1}.conv"
    side, start = ("input_blocks", 1) if level[1] == "down" else ("output_blocks", 0)
    column = 1 if kind == "attentions" else 0
    return f"{side}.{start + 3 * block + index}.{column}.{_within_as_a1111(kind, level[5])}"


def _within_as_a1111(kind: str, path: str) -> str:
    return _A1111_WITHIN.get(path, path) if kind == "resnets" else path


def _spell_comfyui(base: BaseLayers) -> dict[str, Layer]:
    """It also runs the original code, and lists all spellings it knows: flat in both naming schemes, and dotted ones,
    of which attention's must be those of diffusers before PEFT (``attn1.processor.to_q``)."""
    original = spell_original(base)
    found = _unet(base, lambda path: _flat("lora_unet", original[path]))
    found |= _unet(base, lambda path: f"diffusion_model.{original[path]}")
    for path in base.denoiser_paths():
        dotted = path.replace(".to_", ".processor.to_").removesuffix(".0" if ".to_out." in path else "")
        for name in (_flat("lora_unet", path), _flat("lycoris", path), dotted, f"unet.{dotted}"):
            found[name] = Layer(base.denoiser, path)
    found |= _flat_texts(base, "comfyui") | _dotted_texts(base)
    for prefix, part in base.rules.text_names["comfyui"].items():
        if (projection := Layer(part, TEXT_PROJECTION)) in base.shapes:
            found[_flat(prefix, TEXT_PROJECTION)] = projection
    return found


def _spell_diffusers(base: BaseLayers) -> dict[str, Layer]:
    """Its own dotted paths, and kohya's flat ones; of some families the original's names too."""
    found = _unet(base, lambda path: f"unet.{path}") | _unet(base, lambda path: _flat("lora_unet", path))
    if "diffusers" in base.rules.reads_original:
        original = spell_original(base)
        found |= _unet(base, lambda path: _flat("lora_unet", original[path]))
    return found | _dotted_texts(base) | _flat_texts(base, "diffusers")


_SPELLERS: dict[Tool, Callable[[BaseLayers], dict[str, Layer]]] = {
    "diffusers": _spell_diffusers,
    "sd-scripts": _spell_sd_scripts,
    "a1111": _spell_a1111,
    "comfyui": _spell_comfyui,
}
