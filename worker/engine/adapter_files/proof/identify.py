"""Identifies an adapter's file from its keys and shapes alone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from core.domain.artifacts import AdapterFormat
from worker.engine.adapter_files.proof.files import AdapterFile, read_peft_config, role_of, split_key
from worker.engine.adapter_files.proof.kinds import refuse_other_kinds
from worker.engine.adapter_files.proof.layers import Shape
from worker.engine.adapter_files.proof.peft_config import MAX_ALPHA
from worker.engine.adapter_files.proof.spellings import split_prefix
from worker.engine.errors import BadInput
from worker.engine.families.registry import FAMILIES

AdapterFamily = str
"""A family of the registry, one of ``_OTHERS``, or ``unknown``."""

_OTHERS: dict[AdapterFamily, str] = {  # in this order: flux has the names of the second too
    "flux": r"(double|single)_blocks|single_transformer_blocks",
    "sd3": r"joint_blocks|^(transformer\.|lora_transformer_)",
}
_BY_TEXT_WIDTH = {spec.tools.published.text_width: name for name, spec in FAMILIES.items()}
_BY_ENCODER: dict[tuple[str | None, int | None], str] = {
    (spec.text_encoders[0].name, spec.tools.published.text_width): name
    for name, spec in FAMILIES.items()
    if len(spec.text_encoders) == 1
}
"""By the encoder and its width where there is only one: cross-attention reads its states."""
_DEEP = [name for name, spec in FAMILIES.items() if max(spec.tools.published.depths) > 1]
"""Those with several transformer blocks in a row."""


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
        if re.search(r"attn2[_.](processor\.)?to_[kv]$", name) and (found := _BY_TEXT_WIDTH.get(shape[1])):
            return found, f"{name} reads text of width {shape[1]}"
    for name, shape in downs.items():
        part, _ = split_prefix(name)
        own = _DEEP if re.search(r"transformer_blocks[_.][1-9]", name) else _list_owners(part)
        if len(own) == 1:
            return own[0], name
        found = _BY_ENCODER.get((part, shape[1]))
        if found and not name.startswith("lora_te1_"):  # which is the first of several encoders
            return found, f"{name} is {shape[1]} wide"
    return "unknown", "no layer that belongs to one family only"


def _list_owners(part: str | None) -> list[str]:
    """The families with such a text encoder."""
    return [name for name, spec in FAMILIES.items() if part in {encoder.name for encoder in spec.text_encoders}]


def _find_text_encoders(downs: Mapping[str, Shape]) -> tuple[str, ...]:
    found = {split_prefix(name)[0] for name in downs}
    texts = dict.fromkeys(part.name for spec in FAMILIES.values() for part in spec.text_encoders)
    return tuple(part for part in texts if part in found)
