"""What an adapter's file holds, read from its header: keys, shapes, metadata. Reading is safetensors only."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from pathlib import Path

from safetensors import SafetensorError, safe_open

from core.domain.artifacts import AdapterFormat
from core.domain.errors import UnsupportedWeights, WeightsRejected
from core.domain.weights import HEAD_BYTES, Header, read_header
from worker.training.errors import BadInput
from worker.training.proof.layers import Shape


@dataclass(frozen=True)
class AdapterFile:
    """``alphas``: kohya's alpha tensors, by key."""

    shapes: Mapping[str, Shape]
    metadata: Mapping[str, str]
    alphas: Mapping[str, float] = field(default_factory=dict)

    @property
    def format(self) -> AdapterFormat:
        """diffusers' keys are paths, ``unet.…``; kohya's have no dot before the tensor's own name."""
        return "diffusers" if any(key.startswith(DOTTED) for key in self.shapes) else "kohya"


DOTTED = ("unet.", "text_encoder.", "text_encoder_2.")

KOHYA_SUFFIXES = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_mid.weight": "mid",
    "alpha": "alpha",
    "dora_scale": "magnitude",
}
PEFT_SUFFIXES = {
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
}
SUFFIXES = KOHYA_SUFFIXES | PEFT_SUFFIXES
_LONGEST_FIRST = sorted(SUFFIXES, key=len, reverse=True)


def read_file(path: Path) -> AdapterFile:
    """Raises BadInput where it is no safetensors file, or a cut one."""
    try:
        header = _read_header(path)
        single = [key for key, shape in header.shapes.items() if key.endswith(".alpha") and prod(shape) == 1]
        with safe_open(path, framework="pt") as file:
            alphas = {key: float(file.get_tensor(key).item()) for key in single}
    except (SafetensorError, UnsupportedWeights, WeightsRejected, OSError) as error:
        raise BadInput(f"{path.name} is no whole safetensors file ({error})") from error
    return AdapterFile(header.shapes, header.metadata, alphas)


def _read_header(path: Path) -> Header:
    """Before the library opens the file: by its own rules two readers may see two things in one."""
    with path.open("rb") as file:
        return read_header(file.read(HEAD_BYTES), path.stat().st_size)


@lru_cache(maxsize=10_000)  # a file's keys are asked for some forty times
def split_key(key: str) -> tuple[str, str]:
    """A key's name of the layer and of the tensor; what is not known is cut at the first dot, as kohya's tools do."""
    for suffix in _LONGEST_FIRST:
        if key.endswith(f".{suffix}"):
            return key.removesuffix(f".{suffix}"), suffix
    name, _, rest = key.partition(".")
    return name, rest


def read_peft_config(metadata: Mapping[str, str]) -> dict[str, object]:
    """``lora_adapter_metadata`` as diffusers writes it, keyed ``unet.lora_alpha`` and so on; empty where absent."""
    try:
        config = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}
