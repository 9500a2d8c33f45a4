"""Identifies an adapter's file from its keys and shapes alone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from core.domain.artifacts import AdapterFormat
from worker.engine.adapter_files.proof.files import AdapterFile, read_peft_config, role_of, split_key
from worker.engine.adapter_files.proof.kinds import refuse_other_kinds
from worker.engine.adapter_files.proof.layers import TEXT_1, TEXT_2, Shape
from worker.engine.adapter_files.proof.peft_config import MAX_ALPHA
from worker.engine.adapter_files.proof.spellings import split_prefix
from worker.engine.errors import BadInput

AdapterFamily = Literal["sd1", "sd2", "sdxl", "sd3", "flux", "unknown"]

_OTHERS: dict[AdapterFamily, str] = {  # in this order: flux has the names of the second too
    "flux": r"(double|single)_blocks|single_transformer_blocks",
    "sd3": r"joint_blocks|^(transformer\.|lora_transformer_)",
}
_WIDTHS: dict[int, tuple[AdapterFamily, str]] = {768: ("sd1", "768"), 1024: ("sd2", "1024"), 2048: ("sdxl", "2048")}


@dataclass(frozen=True)
class AdapterKind:
    """``evidence``: what identified the family. ``ranks`` and ``alphas`` are sorted and distinct; ``alphas`` is empty
    if the file states none."""

    format: AdapterFormat
    family: AdapterFamily
    evidence: str
    ranks: tuple[int, ...]
    alphas: tuple[float, ...]
    text_encoders: tuple[str, ...]
    dora: bool
    convolutions: bool


def identify(file: AdapterFile) -> AdapterKind:
    """Raises BadInput, with a description, for a file that is not a LoRA."""
    refuse_other_kinds(file)
    roles = {key: role_of(split_key(key)[1]) for key in file.shapes}
    downs = {split_key(key)[0]: file.shapes[key] for key, role in roles.items() if role == "down"}
    if any(len(shape) < 2 for shape in downs.values()):
        raise BadInput("the file's down halves are not matrices")
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
    stated = (value for key, value in config.items() if key.rpartition(".")[2] == "lora_alpha")
    return [float(value) for value in stated if isinstance(value, int | float) and 0 < value < MAX_ALPHA]


def _find_family(downs: Mapping[str, Shape]) -> tuple[AdapterFamily, str]:
    """Other families first, by their blocks' names; then the width of the text that the U-Net's cross-attention reads,
    then the depth of its transformers, then the text encoders."""
    for family, pattern in _OTHERS.items():
        if found := next((name for name in downs if re.search(pattern, name)), None):
            return family, found
    for name, shape in downs.items():
        if re.search(r"attn2[_.](processor\.)?to_[kv]$", name) and shape[1] in _WIDTHS:
            family, width = _WIDTHS[shape[1]]
            return family, f"{name} reads text of width {width}"
    for name, shape in downs.items():
        part, _ = split_prefix(name)
        if re.search(r"transformer_blocks[_.][1-9]", name) or part == TEXT_2:
            return "sdxl", name
        if part == TEXT_1 and not name.startswith("lora_te1_") and shape[1] in (768, 1024):
            return _WIDTHS[shape[1]][0], f"{name} is {shape[1]} wide"
    return "unknown", "no layer that belongs to one family only"


def _find_text_encoders(downs: Mapping[str, Shape]) -> tuple[str, ...]:
    found = {split_prefix(name)[0] for name in downs}
    return tuple(part for part in (TEXT_1, TEXT_2) if part in found)
