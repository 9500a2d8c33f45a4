"""Which names each tool finds a layer by, for a base: written from what those tools do, and checked against lists
made by running them (tests/worker/training/golden)."""

import re
from collections.abc import Callable, Mapping

from core.domain.proof import Tool
from worker.training.proof.layers import TEXT_1, TEXT_2, UNET, BaseLayers, Layer, spell_original

Names = Mapping[str, Layer]

_IN_BLOCKS = re.compile(r"(down_blocks|mid_block|up_blocks)\.")
_CLIP_LAYER = re.compile(r"text_model\.encoder\.layers\.\d+\.(self_attn|mlp)\.")


def list_names(tool: Tool, base: BaseLayers) -> Names:
    return _SPELLERS[tool](base)


def _flat(prefix: str, path: str) -> str:
    return f"{prefix}_{path.replace('.', '_')}"


def _unet(base: BaseLayers, spell: Callable[[str], str]) -> dict[str, Layer]:
    return {spell(path): Layer(UNET, path) for path in base.paths(UNET)}


def _texts(base: BaseLayers, part: str, spell: Callable[[str], str]) -> dict[str, Layer]:
    """Only the layers within CLIP's blocks: no tool here adapts the embeddings."""
    return {spell(path): Layer(part, path) for path in base.paths(part) if _CLIP_LAYER.match(path)}


def _flat_texts(base: BaseLayers, prefixes: Mapping[str, str]) -> dict[str, Layer]:
    found: dict[str, Layer] = {}
    for prefix, part in prefixes.items():
        found |= _texts(base, part, lambda path, prefix=prefix: _flat(prefix, path))  # type: ignore[misc]
    return found


def _spell_sd_scripts(base: BaseLayers) -> dict[str, Layer]:
    """It has its own U-Nets: with diffusers' names for SD 1.x and 2.x, with sgm's for SDXL, where it renames
    diffusers' names as it reads. It adapts what lies in blocks, and no layer before or after them."""
    found = {_flat("lora_unet", path): layer for path, layer in _unet(base, str).items() if _IN_BLOCKS.match(path)}
    if base.family != "sdxl":
        return found | _flat_texts(base, {"lora_te": TEXT_1})
    original = spell_original(base)
    found |= {_flat("lora_unet", original[layer.path]): layer for layer in found.values()}
    return found | _flat_texts(base, {"lora_te1": TEXT_1, "lora_te2": TEXT_2})


def _spell_a1111(base: BaseLayers) -> dict[str, Layer]:
    """It runs the original code, so the original's names always hold. diffusers' names are renamed by rules made for
    SD 1.x, which miss two places of SDXL."""
    original = spell_original(base)
    found = _unet(base, lambda path: _flat("lora_unet", original[path]))
    renamed = _unet(base, lambda path: _flat("lora_unet", path))
    if base.family == "sdxl":
        missed = ("up_blocks.0.upsamplers.", "add_embedding.")
        renamed = {name: layer for name, layer in renamed.items() if not layer.path.startswith(missed)}
    found |= renamed
    if base.family == "sdxl":
        return found | _flat_texts(base, {"lora_te1": TEXT_1, "lora_te2": TEXT_2})
    if base.family == "sd1":
        return found | _flat_texts(base, {"lora_te": TEXT_1, "lora_te1": TEXT_1})
    return found | _flat_texts(base, {"lora_te": TEXT_1})


def _spell_comfyui(base: BaseLayers) -> dict[str, Layer]:
    """It runs the original code too, and lists every spelling it knows: flat in both languages, and dotted ones, of
    which attention's must be those of diffusers before PEFT (``attn1.processor.to_q``)."""
    original = spell_original(base)
    found = _unet(base, lambda path: _flat("lora_unet", original[path]))
    found |= _unet(base, lambda path: f"diffusion_model.{original[path]}")
    for path in base.paths(UNET):
        dotted = path.replace(".to_", ".processor.to_").removesuffix(".0" if ".to_out." in path else "")
        for name in (_flat("lora_unet", path), _flat("lycoris", path), dotted, f"unet.{dotted}"):
            found[name] = Layer(UNET, path)
    prefixes = {"lora_te": TEXT_1, "lora_te1": TEXT_1, "lora_te2": TEXT_2}
    found |= _flat_texts(base, prefixes)
    for part in (TEXT_1, TEXT_2):
        found |= _texts(base, part, lambda path, part=part: f"{part}.{path}")  # type: ignore[misc]
    if Layer(TEXT_2, "text_projection") in base.shapes:
        found["lora_te2_text_projection"] = Layer(TEXT_2, "text_projection")
    return found


def _spell_diffusers(base: BaseLayers) -> dict[str, Layer]:
    """Its own dotted paths, and kohya's flat ones; of the original's names it knows SDXL's alone."""
    found = _unet(base, lambda path: f"unet.{path}") | _unet(base, lambda path: _flat("lora_unet", path))
    if base.family == "sdxl":
        original = spell_original(base)
        found |= _unet(base, lambda path: _flat("lora_unet", original[path]))
    for part in (TEXT_1, TEXT_2):
        found |= _texts(base, part, lambda path, part=part: f"{part}.{path}")  # type: ignore[misc]
    return found | _flat_texts(base, {"lora_te": TEXT_1, "lora_te1": TEXT_1, "lora_te2": TEXT_2})


_SPELLERS: dict[Tool, Callable[[BaseLayers], dict[str, Layer]]] = {
    "diffusers": _spell_diffusers,
    "sd-scripts": _spell_sd_scripts,
    "a1111": _spell_a1111,
    "comfyui": _spell_comfyui,
}
