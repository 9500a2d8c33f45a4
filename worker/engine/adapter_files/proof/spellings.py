"""All spellings of a layer's name in existing files: an import reads them.

A name is a prefix for the network and a path in it; both come with dots or underscores, the path in diffusers' names or
in the original code's. Sources: diffusers 0.11 to 0.42 (``loaders/lora_base.py``, ``utils/state_dict_utils.py``),
peft's ``save_pretrained``, sd-scripts and LyCORIS, ComfyUI (``comfy/lora.py``), and OneTrainer's OMI names.
"""

import re
from collections import defaultdict
from functools import lru_cache

from worker.engine.adapter_files.proof.layers import BaseLayers, Layer, spell_original
from worker.engine.families.registry import FAMILIES

_WRAPPER = "base_model.model."
"""peft's prefix for the paths of a model that it wraps."""

_PREFIXES = sorted(  # the longer ones first
    {(prefix, part.name) for spec in FAMILIES.values() for part in spec.parts for prefix in part.spellings},
    key=lambda row: (-len(row[0]), row),
)
_CLIP = "text_encoder"
"""The part of paths that are CLIP's and have no prefix: the first encoder."""
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
                part = _CLIP
            return part, path
    return (_CLIP if name.startswith("text_model.") else None), name


def is_original(name: str) -> bool:
    """Whether the path has the original code's names: ``input_blocks`` and so on."""
    return bool(_ORIGINAL.search(name))


class Spellings:
    """Finds a base's layers by any of their names."""

    def __init__(self, base: BaseLayers) -> None:
        self._denoiser, original = base.denoiser, spell_original(base)
        self._found: dict[str, dict[str, Layer]] = defaultdict(dict)
        for layer in base.shapes:
            if layer.part == base.denoiser:
                for path in (layer.path, original[layer.path]):
                    self._found[layer.part][_flatten_denoiser(path)] = layer
            elif _CLIP_LAYER.match(layer.path):
                self._found[layer.part][_flatten_clip(layer.path)] = layer

    def find(self, name: str) -> Layer | None:
        """Names without a prefix are the denoiser's, as ``unet.save_lora_adapter`` writes them."""
        part, path = split_prefix(name)
        part = part or self._denoiser
        flatten = _flatten_denoiser if part == self._denoiser else _flatten_clip
        return self._found[part].get(flatten(path))


def _flatten(path: str) -> str:
    """One form for all: with underscores, without the parts that differ between versions."""
    return path.replace(".", "_").replace("_processor_to_", "_to_")


def _flatten_denoiser(path: str) -> str:
    flat = _flatten(path)
    return f"{flat}_0" if flat.endswith("_to_out") else flat


def _flatten_clip(path: str) -> str:
    return _OLD_ATTENTION.sub(r"self_attn_\1_proj", _flatten(path)).removeprefix("text_model_")
