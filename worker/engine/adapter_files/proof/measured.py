"""The update that diffusers' own loader adds to each layer for a file, compared with the trained one.

The loader runs as in a pipeline, on networks that have the base's layers and shapes but no weights: an update does not
depend on them, nor does the assignment of DoRA's magnitudes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft.tuners.lora import LoraLayer

from core.domain.proof import Measured
from worker.engine.adapter_files.proof.adapters import AdapterModule
from worker.engine.adapter_files.proof.layers import Layer, full_text_path
from worker.engine.families.protocol import Network
from worker.engine.families.registry import FAMILIES

TOLERANCE = 1e-4
"""Relative to a layer's update: both come from the same numbers, scaled in another order."""
MAX_FAILURE_CHARS = 300


@dataclass(frozen=True)
class Loaded:
    """``differences``: the relative difference of each trained layer's update from the loaded one; None if nothing was
    loaded. ``lost_magnitudes``: layers that were trained as DoRA and have other magnitudes, or none. ``failure``: the
    loader's message when it gave up the file."""

    differences: Mapping[Layer, float | None]
    lost_magnitudes: frozenset[Layer] = frozenset()
    failure: str = ""

    def is_same(self, layer: Layer) -> bool:
        difference = self.differences.get(layer)
        return difference is not None and difference <= TOLERANCE

    def summarise(self) -> Measured:
        found = [difference for difference in self.differences.values() if difference is not None]
        whole = [layer for layer in self.differences if self.is_same(layer) and layer not in self.lost_magnitudes]
        return Measured(
            num_layers=len(self.differences),
            num_same=len(whole),
            max_difference=round(max(found), 6) if found and len(found) == len(self.differences) else None,
        )


@torch.no_grad()
def load_in_diffusers(path: Path, family: str, networks: Iterable[Network], trained: Iterable[AdapterModule]) -> Loaded:
    """``networks``: the base's, of which only the configuration is used."""
    hollow = {network.diffusers_prefix: hollow_out(network.module) for network in networks}
    loader = _open_loader(family, hollow)
    modules = {module.layer: module for module in trained}
    try:
        loader.load_lora_weights(path.parent, weight_name=path.name, use_safetensors=True, local_files_only=True)
    except (ValueError, RuntimeError, KeyError, IndexError, TypeError) as error:
        return Loaded(dict.fromkeys(modules), failure=str(error)[:MAX_FAILURE_CHARS])
    found = {
        layer: update for part, network in hollow.items() for layer, update in _list_updates(family, part, network)
    }
    differences = {layer: _compare(module, found.get(layer)) for layer, module in modules.items()}
    lost = {layer for layer, module in modules.items() if not _has_magnitude(module, found.get(layer))}
    return Loaded(differences, frozenset(lost))


def hollow_out(network: Any) -> Any:
    """A network of the same type whose weights are a single repeated zero: it takes no memory."""
    kind = type(network)
    with torch.device("meta"):
        copy = kind.from_config(network.config) if hasattr(kind, "from_config") else kind(network.config)
    for module in copy.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            zeros = torch.zeros((), dtype=torch.float32).expand(weight.shape)
            module._parameters[name] = torch.nn.Parameter(zeros, requires_grad=False)
        for name, buffer in list(module.named_buffers(recurse=False)):
            module._buffers[name] = torch.zeros((), dtype=buffer.dtype).expand(buffer.shape)
    return copy.eval()


class _Components:
    """The parts of a pipeline that its loader needs."""

    components: ClassVar[dict[str, Any]] = {}
    hf_device_map = None

    def __init__(self, networks: Mapping[str, Any]) -> None:
        self.__dict__.update(networks)


def _open_loader(family: str, networks: Mapping[str, Any]) -> Any:
    """diffusers' loader for the family's pipelines, on these networks."""
    return type("_Loader", (_Components, FAMILIES[family].lora_loader), {})(networks)


@dataclass(frozen=True)
class _Update:
    down: torch.Tensor
    up: torch.Tensor
    scale: float
    magnitude: torch.Tensor | None


def _list_updates(family: str, part: str, network: torch.nn.Module) -> Iterator[tuple[Layer, _Update]]:
    is_denoiser = part == FAMILIES[family].denoiser.name
    for path, layer in network.named_modules():
        if isinstance(layer, LoraLayer):
            (name,) = layer.lora_A
            magnitudes: Any = layer.lora_magnitude_vector
            yield (
                Layer(part, path if is_denoiser else full_text_path(path)),
                _Update(
                    down=layer.lora_A[name].weight,
                    up=layer.lora_B[name].weight,
                    scale=float(layer.scaling[name]),
                    magnitude=magnitudes[name].weight if name in magnitudes else None,
                ),
            )


def _compare(module: AdapterModule, found: _Update | None) -> float | None:
    if found is None:
        return None
    scale, down, up = module.alpha / len(module.down), _rows(module.down), _rows(module.up)
    size = _measure(scale * up, down)
    apart = _measure(torch.cat([scale * up, -found.scale * _rows(found.up)], 1), torch.cat([down, _rows(found.down)]))
    return apart / size if size else apart


def _rows(half: torch.Tensor) -> torch.Tensor:
    return half.double().flatten(1)


def _measure(up: torch.Tensor, down: torch.Tensor) -> float:
    """The Frobenius norm of up @ down, from their Gram matrices: the product itself may have millions of numbers."""
    return float(((up.T @ up) * (down @ down.T)).sum().clamp(min=0).sqrt())


def _has_magnitude(module: AdapterModule, found: _Update | None) -> bool:
    if module.magnitude is None:
        return True
    got = found.magnitude if found else None
    return got is not None and torch.allclose(got.float().flatten(), module.magnitude.float().flatten(), rtol=1e-3)
