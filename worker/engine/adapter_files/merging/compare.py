"""How far adapters overlap: the cosines between their updates, by layer and in all, from the factors alone."""

from collections.abc import Mapping, Sequence

import torch

from core.domain.adapter_check import LayerDifference, LayerOverlap
from worker.engine.adapter_files.merging.updates import inner_product, join, measure, read_update
from worker.engine.adapter_files.proof.adapters import AdapterModule
from worker.engine.adapter_files.proof.layers import Layer

DIGITS = 6

Modules = Mapping[Layer, AdapterModule]
Norms = Mapping[Layer, float]


@torch.no_grad()
def measure_layers(modules: Modules) -> dict[Layer, float]:
    """The norm of each layer's update."""
    return {layer: measure(read_update(module)) for layer, module in modules.items()}


@torch.no_grad()
def compare(first: Modules, second: Modules, norms: tuple[Norms, Norms]) -> tuple[float, list[LayerOverlap]]:
    """The cosine over all layers, and each common layer's, the largest contributions first. A layer that only one of
    them changes counts in that one's norm. ``norms``: of each, by layer."""
    sizes = join(norms[0].values()) * join(norms[1].values())
    products = {
        layer: inner_product(read_update(first[layer]), read_update(second[layer]))
        for layer in first
        if layer in second
    }
    rows = [
        LayerOverlap(
            layer=name(layer),
            cosine=_divide(product, norms[0][layer] * norms[1][layer]),
            contribution=_divide(product, sizes),
        )
        for layer, product in products.items()
    ]
    rows.sort(key=lambda row: -abs(row.contribution))
    return _divide(sum(products.values()), sizes), rows


def list_differences(stack: Sequence[Modules | None]) -> list[LayerDifference]:
    """``None``: an adapter that does not fit, and counts as nothing."""
    fitting = [modules for modules in stack if modules is not None]
    layers = sorted({layer for modules in fitting for layer in modules}, key=name)
    rows = {layer: tuple(_rank(modules, layer) for modules in stack) for layer in layers}
    unlike = [layer for layer in layers if len({_rank(modules, layer) for modules in fitting}) > 1]
    return [LayerDifference(layer=name(layer), ranks=rows[layer]) for layer in unlike]


def _rank(modules: Modules | None, layer: Layer) -> int | None:
    return len(modules[layer].down) if modules is not None and layer in modules else None


def name(layer: Layer) -> str:
    return f"{layer.part}.{layer.path}"


def _divide(part: float, whole: float) -> float:
    """Rounding may make a cosine a little more than 1."""
    return max(-1.0, min(1.0, round(part / whole, DIGITS))) if whole else 0.0
