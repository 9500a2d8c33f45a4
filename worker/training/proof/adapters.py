"""Reads an adapter back, from either format, as updates of the base's own layers: to train on, or to write again."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from worker.training.errors import BadInput
from worker.training.proof.files import SUFFIXES, AdapterFile, read_file, read_peft_config, split_key
from worker.training.proof.identify import check_fits, find_layers
from worker.training.proof.layers import BaseLayers, Layer


@dataclass(frozen=True)
class AdapterModule:
    """One adapted layer: down (rank, in, …), up (out, rank, …), both as the layer's kind wants them; the update is
    alpha / rank * up @ down. ``magnitude``: DoRA's, (out,) for a Linear and (1, out, 1, 1) for a convolution."""

    layer: Layer
    down: torch.Tensor
    up: torch.Tensor
    alpha: float
    magnitude: torch.Tensor | None = None


def read_adapter(path: Path, base: BaseLayers) -> list[AdapterModule]:
    """Sorted by part and path. Raises BadInput with the reason for what does not fit the base, for LoHa and LoKr,
    and for alphas that are no positive number."""
    file = read_file(path)
    if reason := check_fits(file, base):
        raise BadInput(f"{path.name} does not fit: {reason}")
    layers = find_layers(file, base)
    tensors: dict[Layer, dict[str, torch.Tensor]] = {}
    with safe_open(path, framework="pt") as opened:
        for key in file.shapes:
            name, suffix = split_key(key)
            tensors.setdefault(layers[name], {})[SUFFIXES[suffix]] = opened.get_tensor(key)
    places = sorted(tensors, key=lambda layer: (layer.part, layer.path))
    return [_shape_module(layer, tensors[layer], file, base) for layer in places]


def _shape_module(layer: Layer, tensors: dict[str, torch.Tensor], file: AdapterFile, base: BaseLayers) -> AdapterModule:
    shape, down, up = base.shapes[layer], tensors["down"], tensors["up"]
    rank = down.shape[0]
    if "mid" in tensors:  # LyCORIS' Tucker form: the kernel stands apart, and folds into the down half
        down = torch.einsum("mnkl,ni->mikl", tensors["mid"], down.flatten(1))
    return AdapterModule(
        layer=layer,
        down=down.reshape(rank, *shape[1:]),
        up=up.reshape(shape[0], rank, *[1] * len(shape[2:])),
        alpha=_read_alpha(layer, tensors, file, rank),
        magnitude=_read_magnitude(layer, tensors.get("magnitude"), shape),
    )


def _read_alpha(layer: Layer, tensors: dict[str, torch.Tensor], file: AdapterFile, rank: int) -> float:
    """Where nothing states it, alpha is the rank: the scale of 1.0 that every tool takes."""
    stated: object = rank
    if "alpha" in tensors:
        stated = tensors["alpha"].item() if tensors["alpha"].numel() == 1 else None
    elif file.format == "diffusers":
        config = read_peft_config(file.metadata)
        pattern = config.get(f"{layer.part}.alpha_pattern")
        stated = config.get(f"{layer.part}.lora_alpha", rank)
        if isinstance(pattern, dict):
            stated = pattern.get(layer.path, stated)
        if config.get(f"{layer.part}.use_rslora") and isinstance(stated, int | float):
            stated = stated * rank**0.5  # arXiv 2312.03732: the scale is alpha / sqrt(rank)
    if not isinstance(stated, int | float) or not 0 < stated < 1e6:
        raise BadInput(f"the alpha of {layer.part}.{layer.path} is no positive number")
    return float(stated)


def _read_magnitude(layer: Layer, magnitude: torch.Tensor | None, shape: tuple[int, ...]) -> torch.Tensor | None:
    if magnitude is None:
        return None
    per_output = magnitude.numel() == shape[0] and (magnitude.ndim == 1 or magnitude.shape[0] in (1, shape[0]))
    if not per_output or (magnitude.ndim == 2 and magnitude.shape[0] == 1):
        raise BadInput(f"the DoRA magnitudes of {layer.part}.{layer.path} go by inputs; those by outputs are read")
    return magnitude.reshape(1, -1, 1, 1) if len(shape) == 4 else magnitude.reshape(-1)
