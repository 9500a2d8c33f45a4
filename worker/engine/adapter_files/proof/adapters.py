"""Reads an adapter from either format as updates of the base's own layers: to train from, or to rewrite."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from worker.engine.adapter_files.proof.files import AdapterFile, Role, read_file, read_peft_config
from worker.engine.adapter_files.proof.fitting import Fit, fit
from worker.engine.adapter_files.proof.layers import BaseLayers, Layer
from worker.engine.adapter_files.proof.peft_config import find_alpha
from worker.engine.adapter_files.proof.resolve import Group
from worker.engine.errors import BadInput


@dataclass(frozen=True)
class AdapterModule:
    """One adapted layer: down (rank, in, …), up (out, rank, …), both in the layer's own shape; the update is alpha /
    rank * up @ down. ``magnitude``: DoRA's, (out,) for a Linear and (1, out, 1, 1) for a convolution."""

    layer: Layer
    down: torch.Tensor
    up: torch.Tensor
    alpha: float
    magnitude: torch.Tensor | None = None


def read_adapter(path: Path, base: BaseLayers) -> list[AdapterModule]:
    """Sorted by part and path. Raises BadInput with the reason for tensors that do not fit the base, for other types of
    adapters, and for alphas that are not positive numbers. Additional contents of the file are ignored."""
    file = read_file(path)
    return read_modules(path, file, fit(file, base), base)


def read_modules(path: Path, file: AdapterFile, found: Fit, base: BaseLayers) -> list[AdapterModule]:
    places = sorted(found.groups, key=lambda layer: (layer.part, layer.path))
    with safe_open(path, framework="pt") as opened:
        return [_shape_module(layer, _load(opened, found.groups[layer]), file, base) for layer in places]


def _load(opened: Any, group: Group) -> dict[Role, torch.Tensor]:
    """Both halves in one type that holds every number of either."""
    try:
        tensors: dict[Role, torch.Tensor] = {role: opened.get_tensor(key) for role, key in group.items()}
    except (SafetensorError, AttributeError, KeyError, RuntimeError) as error:
        raise BadInput(f"{group['down']} or its pair has a type that cannot be read ({error})") from error
    for role, tensor in tensors.items():
        if role != "alpha" and tensor.dtype not in _READ:
            raise BadInput(f"{group[role]} is in {tensor.dtype}, which is not a type of weights")
    halves = _choose_dtype({tensor.dtype for role, tensor in tensors.items() if role in _HALVES})
    if (magnitude := tensors.get("magnitude")) is not None:
        tensors["magnitude"] = magnitude.to(_choose_dtype({magnitude.dtype}))
    return tensors | {role: tensor.to(halves) for role, tensor in tensors.items() if role in _HALVES}


_READ = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2}
_HALVES: tuple[Role, ...] = ("down", "up", "mid")
_HALF = {torch.float16, torch.float8_e4m3fn, torch.float8_e5m2}


def _choose_dtype(dtypes: set[torch.dtype]) -> torch.dtype:
    """A precision of the file is kept if other tools read it; float16 holds both 8-bit types."""
    if dtypes == {torch.bfloat16}:
        return torch.bfloat16
    return torch.float16 if dtypes <= _HALF else torch.float32


def _shape_module(
    layer: Layer, tensors: dict[Role, torch.Tensor], file: AdapterFile, base: BaseLayers
) -> AdapterModule:
    shape, down, up = base.shapes[layer], tensors["down"], tensors["up"]
    rank = down.shape[0]
    if "mid" in tensors:  # LyCORIS' Tucker form: the kernel is separate, and is folded into the down half
        down = torch.einsum("mnkl,ni->mikl", tensors["mid"], down.flatten(1))
    return AdapterModule(
        layer=layer,
        down=down.reshape(rank, *shape[1:]),
        up=up.reshape(shape[0], rank, *[1] * len(shape[2:])),
        alpha=_read_alpha(layer, tensors, file, rank),
        magnitude=_read_magnitude(layer, tensors.get("magnitude"), shape),
    )


def _read_alpha(layer: Layer, tensors: dict[Role, torch.Tensor], file: AdapterFile, rank: int) -> float:
    """If it is not stated, alpha is the rank: every tool then uses a scale of 1.0."""
    if "alpha" in tensors:
        stated: object = tensors["alpha"].item() if tensors["alpha"].numel() == 1 else None
    else:
        stated = find_alpha(read_peft_config(file.metadata), layer, rank)
    if not isinstance(stated, int | float) or not 0 < stated < 1e6:
        raise BadInput(f"the alpha of {layer.part}.{layer.path} is not a positive number")
    return float(stated)


def _read_magnitude(layer: Layer, magnitude: torch.Tensor | None, shape: tuple[int, ...]) -> torch.Tensor | None:
    if magnitude is None:
        return None
    per_output = magnitude.numel() == shape[0] and (magnitude.ndim == 1 or magnitude.shape[0] in (1, shape[0]))
    if not per_output or (magnitude.ndim == 2 and magnitude.shape[0] == 1):
        raise BadInput(
            f"the DoRA magnitudes of {layer.part}.{layer.path} are per input; only those per output are supported"
        )
    return magnitude.reshape(1, -1, 1, 1) if len(shape) == 4 else magnitude.reshape(-1)
