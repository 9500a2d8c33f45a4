"""What an adapter's file is, found from its keys and shapes alone, and whether it fits a base."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from core.domain.artifacts import AdapterFormat
from worker.training.errors import BadInput
from worker.training.proof.files import SUFFIXES, AdapterFile, read_peft_config, split_key
from worker.training.proof.layers import BaseLayers, Layer, Shape
from worker.training.proof.names import list_names
from worker.training.proof.resolve import fits

AdapterFamily = Literal["sd1", "sd2", "sdxl", "sd3", "flux", "unknown"]

_FOREIGN = {"hada_": "LoHa", "lokr_": "LoKr", "oft_": "OFT", "glora": "GLoRA", ".diff": "full weights"}
_OTHERS: dict[AdapterFamily, str] = {  # in this order: flux has the names of the second too
    "flux": r"(double|single)_blocks|single_transformer_blocks",
    "sd3": r"joint_blocks|^(transformer\.|lora_transformer_)",
}
_WIDTHS: dict[int, tuple[AdapterFamily, str]] = {768: ("sd1", "768"), 1024: ("sd2", "1024"), 2048: ("sdxl", "2048")}


@dataclass(frozen=True)
class AdapterKind:
    """``evidence``: what gave the family away. ``ranks`` and ``alphas`` are sorted, one of each value; ``alphas`` is
    empty where the file states none."""

    format: AdapterFormat
    family: AdapterFamily
    evidence: str
    ranks: tuple[int, ...]
    alphas: tuple[float, ...]
    text_encoders: tuple[str, ...]
    dora: bool
    convolutions: bool


def identify(file: AdapterFile) -> AdapterKind:
    """Raises BadInput for what is no LoRA, or of a kind that is not read, by its name."""
    refuse_foreign(file)
    roles = {key: SUFFIXES.get(split_key(key)[1]) for key in file.shapes}
    downs = {split_key(key)[0]: file.shapes[key] for key, role in roles.items() if role == "down"}
    if not downs or not any(role == "up" for role in roles.values()):
        raise BadInput("the file holds no LoRA: no lora_down and lora_up, nor lora_A and lora_B")
    if any(len(shape) < 2 for shape in downs.values()):
        raise BadInput("the file's lora_down tensors are no matrices")
    family, evidence = _find_family(downs)
    return AdapterKind(
        format=file.format,
        family=family,
        evidence=evidence,
        ranks=tuple(sorted({shape[0] for shape in downs.values()})),
        alphas=tuple(sorted({*file.alphas.values(), *_configured_alphas(file)})),
        text_encoders=_find_text_encoders(downs),
        dora="magnitude" in roles.values(),
        convolutions=any(max(shape[2:], default=1) > 1 for shape in downs.values()),
    )


def _configured_alphas(file: AdapterFile) -> list[float]:
    config = read_peft_config(file.metadata)
    stated = (value for key, value in config.items() if key.endswith(".lora_alpha"))
    return [float(value) for value in stated if isinstance(value, int | float)]


def refuse_foreign(file: AdapterFile) -> None:
    """Raises BadInput with the name of what the file holds, where that is no LoRA, LoCon or DoRA."""
    for key in file.shapes:
        tensor = key.partition(".")[2] if not key.startswith(("unet.", "text_encoder")) else key
        for mark, kind in _FOREIGN.items():
            if mark in f".{tensor}":
                raise BadInput(f"this is a {kind} file ({key}); LoRA, LoCon and DoRA are taken")


def _find_family(downs: Mapping[str, Shape]) -> tuple[AdapterFamily, str]:
    """Other families first, by their blocks' names; then the width that the U-Net's cross-attention reads, then the
    depth of its transformers, then the text encoders."""
    for family, pattern in _OTHERS.items():
        if found := next((name for name in downs if re.search(pattern, name)), None):
            return family, found
    for name, shape in downs.items():
        if re.search(r"attn2[_.](processor\.)?to_[kv]$", name) and shape[1] in _WIDTHS:
            family, width = _WIDTHS[shape[1]]
            return family, f"{name} reads text of width {width}"
    for name, shape in downs.items():
        if re.search(r"transformer_blocks[_.][1-9]", name) or name.startswith(("lora_te2_", "text_encoder_2.")):
            return "sdxl", name
        if name.startswith(("lora_te_", "text_encoder.")) and shape[1] in (768, 1024):
            return _WIDTHS[shape[1]][0], f"{name} is {shape[1]} wide"
    return "unknown", "no layer that only one family has"


def _find_text_encoders(downs: Mapping[str, Shape]) -> tuple[str, ...]:
    prefixes = {
        "text_encoder": ("lora_te_", "lora_te1_", "text_encoder."),
        "text_encoder_2": ("lora_te2_", "text_encoder_2."),
    }
    return tuple(part for part, own in prefixes.items() if any(name.startswith(own) for name in downs))


def find_layers(file: AdapterFile, base: BaseLayers) -> dict[str, Layer]:
    """Each of the file's names -> the base's layer, by any spelling that some tool reads."""
    known = {**list_names("comfyui", base), **list_names("a1111", base), **list_names("diffusers", base)}
    return {name: known[name] for name in {split_key(key)[0] for key in file.shapes} if name in known}


def check_fits(file: AdapterFile, base: BaseLayers) -> str | None:
    """Why the file cannot be used on the base; None where every tensor has its layer and its shape."""
    kind = identify(file)
    if kind.family not in (base.family, "unknown"):
        return f"the file is for {kind.family} ({kind.evidence}); the base is {base.family}"
    layers = find_layers(file, base)
    grouped: dict[str, dict[str, Shape]] = {}
    for key, shape in file.shapes.items():
        name, suffix = split_key(key)
        if name not in layers:
            return f"the base has no layer for {key}"
        if suffix not in SUFFIXES:
            return f"what {suffix} of {name} is, is not known"
        grouped.setdefault(name, {})[SUFFIXES[suffix]] = shape
    holders = Counter(layers.values())
    for name, group in grouped.items():
        place = layers[name]
        if reason := _misfit(name, group, base.shapes[place]):
            return reason
        if holders[place] > 1:
            return f"two names of the file lie on one layer, {place.part}.{place.path}"
    return None


def _misfit(name: str, shape: dict[str, Shape], layer: Shape) -> str | None:
    if missing := [half for half in ("down", "up") if half not in shape]:
        return f"{name} has no lora_{missing[0]} weight"
    if not fits(shape, layer, strict=False):
        return f"{name}: {shape['down']} and {shape['up']} do not fit the base's layer of {layer}"
    return None
