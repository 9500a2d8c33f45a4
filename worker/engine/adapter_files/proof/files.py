"""The contents of an adapter's file, from its header: keys, shapes, metadata. Only by safetensors."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from core.domain.artifacts import AdapterFormat
from core.domain.errors import UnsupportedWeights, WeightsRejected
from core.domain.weights import HEAD_BYTES, Header, read_header
from worker.engine.adapter_files.proof.layers import Shape
from worker.engine.errors import BadInput
from worker.engine.families.registry import PART_NAMES

Role = Literal["down", "up", "mid", "alpha", "magnitude"]


@dataclass(frozen=True)
class AdapterFile:
    """``alphas``: kohya's alpha tensors, by key."""

    shapes: Mapping[str, Shape]
    metadata: Mapping[str, str]
    alphas: Mapping[str, float] = field(default_factory=dict)

    @property
    def format(self) -> AdapterFormat:
        """diffusers' keys are paths, ``unet.…``; kohya's have no dot before the tensor's own name."""
        split = (split_key(key) for key in self.shapes)
        return "diffusers" if any("." in name and role_of(suffix) for name, suffix in split) else "kohya"


DOTTED = tuple(f"{part}." for part in PART_NAMES)

KOHYA_SUFFIXES: dict[str, Role] = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_mid.weight": "mid",
    "alpha": "alpha",
    "dora_scale": "magnitude",
}
PEFT_SUFFIXES: dict[str, Role] = {
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
}
DIFFUSERS_SUFFIXES: dict[
    str, Role
] = {  # before peft, and of save_lora_weights(convert_state_dict_to_diffusers(…)) to this day
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "lora_linear_layer.down.weight": "down",
    "lora_linear_layer.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
}
_ROLES: dict[str, Role] = KOHYA_SUFFIXES | PEFT_SUFFIXES | DIFFUSERS_SUFFIXES | {"lora_A": "down", "lora_B": "up"}
_OF_AN_ADAPTER = re.compile(r"(?:(lora_A|lora_B)\.[^.]+\.weight|(lora_magnitude_vector)\.[^.]+(?:\.weight)?)")
"""peft's keys while they still contain the adapter's name, such as ``default``."""
_ANY_SUFFIX = re.compile(
    "(?:"
    + "|".join(rf"{'' if suffix[0] == '_' else '[.]'}{re.escape(suffix)}" for suffix in _ROLES)
    + rf"|[.]{_OF_AN_ADAPTER.pattern})$"
)


def read_file(path: Path) -> AdapterFile:
    """Raises BadInput if it is not a complete safetensors file."""
    try:
        header = _read_header(path)
        single = [key for key, shape in header.shapes.items() if key.endswith(".alpha") and prod(shape) == 1]
        with safe_open(path, framework="pt") as file:
            alphas = {key: float(file.get_tensor(key).item()) for key in single}
    except (SafetensorError, UnsupportedWeights, WeightsRejected, OSError) as error:
        raise BadInput(f"the file is not a complete safetensors file ({error})") from error
    except (TypeError, ValueError, OverflowError) as error:  # such as of a complex number
        raise BadInput("an alpha of the file is not a real number") from error
    return AdapterFile(header.shapes, header.metadata, alphas)


def _read_header(path: Path) -> Header:
    """Before the library opens the file, whose own rules allow two readers to interpret one file differently."""
    with path.open("rb") as file:
        return read_header(file.read(HEAD_BYTES), path.stat().st_size)


@lru_cache(maxsize=10_000)  # a file's keys are asked for some forty times
def split_key(key: str) -> tuple[str, str]:
    """The layer's and the tensor's part of a key; an unknown one is split at the first dot, as by kohya's tools."""
    if found := _ANY_SUFFIX.search(key):
        return key[: found.start()], found[0].removeprefix(".")
    name, _, rest = key.partition(".")
    return name, rest


@lru_cache(maxsize=1_000)
def role_of(suffix: str) -> Role | None:
    """A tensor's role in its layer; None for a tensor that no LoRA has."""
    if role := _ROLES.get(suffix):
        return role
    named = _OF_AN_ADAPTER.fullmatch(suffix)
    return _ROLES[named[1] or named[2]] if named else None


def read_peft_config(metadata: Mapping[str, str]) -> dict[str, object]:
    """``lora_adapter_metadata`` as diffusers writes it, keyed ``unet.lora_alpha`` and so on; empty where absent."""
    try:
        config = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}
