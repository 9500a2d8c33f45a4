"""The weighted sum of adapters as one adapter: exact, or the best one of a given rank.

LoRA and LoCon are linear in their updates, so a stack of them with weights is itself a LoRA. DoRA is not: its
magnitudes scale the norm of the base's weight plus the update.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from core.domain.adapter_merge import LayerError, MergeError
from worker.engine.adapter_files.merging.updates import (
    Update,
    add,
    balance,
    join,
    measure,
    read_update,
    round_to,
    subtract,
    truncate,
)
from worker.engine.adapter_files.proof.adapters import AdapterModule
from worker.engine.adapter_files.proof.layers import Layer
from worker.engine.errors import BadInput

HALF_TOLERANCE = 1e-3
"""Relative to a layer's update. Rounding two halves to float16 costs some 3e-4, and more only where its range ends."""
DIGITS = 7
TEXT = "text_model."
"""The beginning of a text encoder's paths."""

Stack = Sequence[tuple[Sequence[AdapterModule], float]]
"""Adapters with their weights."""


@dataclass(frozen=True)
class Merged:
    """Sorted by part and path, with alpha = rank everywhere."""

    modules: Sequence[AdapterModule]
    error: MergeError


@torch.no_grad()
def merge(stack: Stack, rank: int | None = None) -> Merged:
    """``rank``: cut every layer's sum to it; None keeps the sum as it is. Halves are float16, or all float32 if float16
    cannot hold some layer's numbers. Raises BadInput for DoRA, and for numbers that cannot give an image."""
    places = _group(stack)
    made = pad_text_encoders([_make(layer, rows, rank) for layer, rows in places.items()])
    dtype = torch.float16 if all(map(_fits_half, made)) else torch.float32
    written = [replace(one, down=one.down.to(dtype), up=one.up.to(dtype)) for one in made]
    return Merged(written, _measure_error(places, written))


Rows = Sequence[tuple[AdapterModule, float]]


def _group(stack: Stack) -> dict[Layer, Rows]:
    """Layer -> its module and weight in each adapter that has it."""
    found: dict[Layer, list[tuple[AdapterModule, float]]] = {}
    for modules, weight in stack:
        for module in modules:
            _refuse_unusable(module)
            found.setdefault(module.layer, []).append((module, weight))
    return {layer: found[layer] for layer in sorted(found, key=lambda layer: (layer.part, layer.path))}


def _refuse_unusable(module: AdapterModule) -> None:
    name = f"{module.layer.part}.{module.layer.path}"
    if module.magnitude is not None:
        raise BadInput(f"{name} has DoRA magnitudes, which cannot be added up without the base's weights")
    if not (torch.isfinite(module.up).all() and torch.isfinite(module.down).all()):
        raise BadInput(f"{name} has NaN or infinite weights: the file is broken")


def _sum(rows: Rows) -> Update:
    return add([read_update(module, weight) for module, weight in rows])


def _make(layer: Layer, rows: Rows, rank: int | None) -> AdapterModule:
    """In float32, and in the layer's own shape."""
    whole, like = _sum(rows), rows[0][0]
    made = balance(whole if rank is None else truncate(whole, rank))
    return AdapterModule(
        layer=layer,
        down=made.down.float().reshape(made.rank, *like.down.shape[1:]).contiguous(),
        up=made.up.float().reshape(like.up.shape[0], made.rank, *like.up.shape[2:]).contiguous(),
        alpha=float(made.rank),
    )


def pad_text_encoders(modules: Sequence[AdapterModule]) -> list[AdapterModule]:
    """One rank for all layers of a text encoder, by rows of zeros: with transformers 5, diffusers loses the alphas of
    those that differ from the others, because CLIP's paths have no ``text_model`` there."""
    ranks = dict[str, int]()
    for module in modules:
        ranks[module.layer.part] = max(ranks.get(module.layer.part, 0), len(module.down))
    return [_pad(one, ranks[one.layer.part]) if one.layer.path.startswith(TEXT) else one for one in modules]


def _pad(module: AdapterModule, rank: int) -> AdapterModule:
    more = rank - len(module.down)
    down = torch.cat([module.down, module.down.new_zeros(more, *module.down.shape[1:])])
    up = torch.cat([module.up, module.up.new_zeros(len(module.up), more, *module.up.shape[2:])], 1)
    return replace(module, down=down, up=up, alpha=float(rank))


def _fits_half(module: AdapterModule) -> bool:
    whole = read_update(module)
    half = round_to(whole, torch.float16)
    finite = bool(torch.isfinite(half.up).all() and torch.isfinite(half.down).all())
    return finite and measure(subtract(whole, half)) <= HALF_TOLERANCE * measure(whole)


def _measure_error(places: Mapping[Layer, Rows], written: Sequence[AdapterModule]) -> MergeError:
    """Of the numbers as they are stored: it contains what rounding costs."""
    sizes, apart = dict[Layer, float](), dict[Layer, float]()
    for module in written:
        exact = _sum(places[module.layer])
        sizes[module.layer], apart[module.layer] = measure(exact), measure(subtract(exact, read_update(module)))
    relative = {layer: _divide(apart[layer], sizes[layer]) for layer in places}
    worst = sorted(places, key=lambda layer: -relative[layer])
    rows_of_layers = tuple(LayerError(layer=f"{row.part}.{row.path}", error=relative[row]) for row in worst)
    return MergeError(total=_divide(join(apart.values()), join(sizes.values())), layers=rows_of_layers)


def _divide(part: float, whole: float) -> float:
    return round(part / whole, DIGITS) if whole else 0.0
