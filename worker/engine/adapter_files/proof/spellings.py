"""All spellings of a layer's name in existing files: an import reads them.

A name is a prefix for the network and a path in it; both come with dots or underscores, the path in diffusers' names or
in the original code's. Sources: diffusers 0.11 to 0.42 (``loaders/lora_base.py``, ``utils/state_dict_utils.py``),
peft's ``save_pretrained``, sd-scripts and LyCORIS, ComfyUI (``comfy/lora.py``), and OneTrainer's OMI names.
"""

import re
from functools import lru_cache

from worker.engine.adapter_files.proof.layers import TEXT_1, TEXT_2, UNET, BaseLayers, Layer, spell_original

_WRAPPER = "base_model.model."
"""peft's prefix for the paths of a model that it wraps."""

_PREFIXES: tuple[tuple[str, str], ...] = (  # the longer ones first
    ("model.diffusion_model.", UNET),
    ("diffusion_model.", UNET),
    ("lora_unet_", UNET),
    ("lora_unet.", UNET),
    ("lycoris_", UNET),
    ("unet.", UNET),
    ("text_encoders.clip_l.transformer.", TEXT_1),
    ("text_encoders.clip_h.transformer.", TEXT_1),
    ("text_encoders.clip_g.transformer.", TEXT_2),
    ("text_encoder_2.", TEXT_2),
    ("text_encoder.", TEXT_1),
    ("lora_clip_l.", TEXT_1),
    ("lora_clip_g.", TEXT_2),
    ("lora_te2_", TEXT_2),
    ("lora_te2.", TEXT_2),
    ("lora_te1_", TEXT_1),
    ("lora_te1.", TEXT_1),
    ("lora_te_", TEXT_1),
    ("lora_te.", TEXT_1),
    ("clip_l.", TEXT_1),
    ("clip_h.", TEXT_1),
    ("clip_g.", TEXT_2),
)
_ORIGINAL = re.compile(r"(input_blocks|middle_block|output_blocks|time_embed|label_emb|\bout)[._]\d")
_CLIP_LAYER = re.compile(r"text_model\.encoder\.layers\.\d+\.(self_attn|mlp)\.|text_projection$")
_OLD_ATTENTION = re.compile(r"self_attn_to_(q|k|v|out)$")


@lru_cache(maxsize=10_000)
def split_prefix(name: str) -> tuple[str | None, str]:
    """The network that a name states, or None, and the path in it, in the file's spelling."""
    name = name.removeprefix(_WRAPPER)
    for prefix, part in _PREFIXES:
        if name.startswith(prefix):
            path = name.removeprefix(prefix).removeprefix(_WRAPPER)
            if prefix == "lycoris_" and path.startswith("text_model_"):
                part = TEXT_1
            return part, path
    return (TEXT_1 if name.startswith("text_model.") else None), name


def is_original(name: str) -> bool:
    """Whether the path has the original code's names: ``input_blocks`` and so on."""
    return bool(_ORIGINAL.search(name))


class Spellings:
    """Finds a base's layers by any of their names."""

    def __init__(self, base: BaseLayers) -> None:
        original = spell_original(base)
        self._found: dict[str, dict[str, Layer]] = {UNET: {}, TEXT_1: {}, TEXT_2: {}}
        for layer in base.shapes:
            if layer.part == UNET:
                for path in (layer.path, original[layer.path]):
                    self._found[UNET][_flatten(UNET, path)] = layer
            elif _CLIP_LAYER.match(layer.path):
                self._found[layer.part][_flatten(layer.part, layer.path)] = layer

    def find(self, name: str) -> Layer | None:
        """Names without a prefix are the U-Net's, as ``unet.save_lora_adapter`` writes them."""
        part, path = split_prefix(name)
        part = part or UNET
        return self._found[part].get(_flatten(part, path))


def _flatten(part: str, path: str) -> str:
    """One form for all: with underscores, without the parts that differ between versions."""
    flat = path.replace(".", "_").replace("_processor_to_", "_to_")
    if part == UNET:
        return f"{flat}_0" if flat.endswith("_to_out") else flat
    flat = _OLD_ATTENTION.sub(r"self_attn_\1_proj", flat)
    return flat.removeprefix("text_model_")
