"""A weighted stack of adapters on a warm base, which stays as it was: changed layers add to their own output.

The sum is that of diffusers' ``set_adapters``: for each adapter, its weight times alpha / rank times ``up @ down`` on
the layer's input. DoRA's magnitudes (arXiv 2402.09353) rescale the layer's own output as in peft's
``DoraLinearLayer``; the weight scales the update within the norm, so that a DoRA of weight 0 is not exactly the base.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer

from worker.engine.adapter_files.proof.adapters import AdapterModule
from worker.engine.families.protocol import Network

BASE_LAYER = ".base_layer"
"""The name of a layer within peft's, while an adapter is trained on it."""

Stack = Sequence[tuple[Sequence[AdapterModule], float]]
"""The layers of each adapter, and its weight."""


@contextmanager
def stacked(networks: Sequence[Network], stack: Stack) -> Iterator[None]:
    """Within it, the networks predict with the adapters. Layers of other networks are left out."""
    with ExitStack() as hooks:
        for layer, updates in _place(networks, stack):
            hooks.callback(layer.register_forward_hook(_make_hook(updates)).remove)
        yield


@dataclass(frozen=True)
class Update:
    """One adapter on one layer, in the layer's precision: ``up`` includes weight and alpha / rank. ``rescale`` is
    DoRA's magnitude by the norm of the changed weights, in the shape of the outputs."""

    down: torch.Tensor
    up: torch.Tensor
    rescale: torch.Tensor | None

    def of(self, layer: Any, inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """What it adds to the layer's output."""
        if isinstance(layer, torch.nn.Linear):
            change = F.linear(F.linear(inputs, self.down), self.up)
        else:
            change = F.conv2d(F.conv2d(inputs, self.down, None, layer.stride, layer.padding, layer.dilation), self.up)
        if self.rescale is None:
            return change
        own = output if layer.bias is None else output - layer.bias.reshape(self.rescale.shape)
        return (self.rescale - 1) * own + self.rescale * change


def _make_hook(updates: Sequence[Update]) -> Any:
    def add(layer: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return output + sum(update.of(layer, inputs[0], output) for update in updates)

    return add


def _place(networks: Sequence[Network], stack: Stack) -> Iterator[tuple[Any, list[Update]]]:
    by_place: dict[tuple[str, str], list[tuple[AdapterModule, float]]] = defaultdict(list)
    for modules, weight in stack:
        for module in modules:
            by_place[module.layer.part, module.layer.path].append((module, weight))
    for network in networks:
        for name, layer in network.module.named_modules():
            path = network.diffusers_path(name.removesuffix(BASE_LAYER))
            found = by_place.get((network.diffusers_prefix, path))
            if found and not isinstance(layer, BaseTunerLayer):
                yield layer, [_fit(module, weight, layer) for module, weight in found]


def _fit(module: AdapterModule, weight: float, layer: Any) -> Update:
    """Computed in float32, kept in the layer's precision."""
    device, dtype = layer.weight.device, layer.weight.dtype
    down, up = module.down.to(device, torch.float32), module.up.to(device, torch.float32)
    up = up * (weight * module.alpha / len(down))
    rescale = None if module.magnitude is None else _find_rescale(module.magnitude, down, up, layer).to(dtype)
    return Update(down.to(dtype), up.to(dtype), rescale)


def _find_rescale(magnitude: torch.Tensor, down: torch.Tensor, up: torch.Tensor, layer: Any) -> torch.Tensor:
    """(out,) for a Linear, (1, out, 1, 1) for a convolution."""
    own = layer.weight.float()
    changed = own + (up.flatten(1) @ down.flatten(1)).view_as(own)
    rescale: torch.Tensor = magnitude.to(own).flatten() / changed.flatten(1).norm(dim=1)
    return rescale.view(-1) if isinstance(layer, torch.nn.Linear) else rescale.view(1, -1, 1, 1)
