"""The alphas in the metadata of diffusers' files, as peft reads them."""

from collections.abc import Mapping

from worker.engine.adapter_files.proof.layers import Layer
from worker.engine.errors import BadInput
from worker.engine.families.registry import PART_NAMES


def config_of(config: Mapping[str, object], part: str) -> dict[str, object]:
    """One network's settings; those of ``save_lora_adapter``, which writes one network's file, have no prefix."""
    if not any(key.startswith(f"{known}.") for key in config for known in PART_NAMES):
        return dict(config)
    return {key.removeprefix(f"{part}."): value for key, value in config.items() if key.startswith(f"{part}.")}


MAX_ALPHA = 1_000_000


def find_alpha(config: Mapping[str, object], layer: Layer, rank: int) -> object:
    """The layer's stated alpha; without one, the rank. With rsLoRA (arXiv 2312.03732) peft scales by
    alpha / sqrt(rank)."""
    own = config_of(config, layer.part)
    stated, pattern = own.get("lora_alpha", rank), own.get("alpha_pattern")
    if isinstance(pattern, dict):
        stated = next((value for key, value in pattern.items() if _names(key, layer)), stated)
    if isinstance(stated, int | float) and not 0 < stated < MAX_ALPHA:
        raise BadInput(f"the file's metadata states an alpha that is not between 0 and {MAX_ALPHA:,}")
    if own.get("use_rslora") and isinstance(stated, int | float):
        return stated * rank**0.5
    return stated


def _names(key: object, layer: Layer) -> bool:
    """peft's ``get_pattern_key``: the path or its end, or after ^ the path alone; with transformers 5 CLIP's paths have
    no ``text_model``. It also accepts regular expressions, which must not run for an untrusted file."""
    if not isinstance(key, str) or any(char in key for char in "*+?[](){}|$"):
        raise BadInput("the file's alpha_pattern contains patterns; write the layers' own names")
    path, plain = layer.path, key.replace("\\.", ".")
    if plain.startswith("^"):
        return plain[1:] in (path, path.removeprefix("text_model."))
    return path == plain or path.endswith(f".{plain}")
