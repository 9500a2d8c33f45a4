"""Writes an adapter that was read from files in both formats, with the metadata that other tools rely on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save

from core.domain.artifacts import AdapterFormat
from core.domain.model import Family
from core.domain.spec import AdapterType
from worker.engine.adapter_files.formats import (
    LoraModule,
    Tensors,
    describe_for_diffusers,
    hash_tensors,
    to_diffusers,
    to_kohya,
    write_safetensors,
)
from worker.engine.adapter_files.proof.adapters import AdapterModule, read_adapter
from worker.engine.adapter_files.proof.layers import BaseLayers
from worker.engine.adapter_files.proof.prove import a1111_family
from worker.engine.errors import BadInput
from worker.engine.families.protocol import Network
from worker.engine.families.registry import FAMILIES


def name_module(module: AdapterModule, networks: Sequence[Network]) -> LoraModule:
    """Raises BadInput for numbers that cannot give an image."""
    layer = module.layer
    tensors = [tensor for tensor in (module.down, module.up, module.magnitude) if tensor is not None]
    if not all(torch.isfinite(tensor).all() for tensor in tensors):
        raise BadInput(f"{layer.part}.{layer.path} has NaN or infinite weights: the file is broken")
    network = next(network for network in networks if network.diffusers_prefix == layer.part)
    return LoraModule(network, layer.path, module.down, module.up, module.alpha, module.magnitude)


def type_of(modules: Sequence[LoraModule]) -> AdapterType:
    if any(module.magnitude is not None for module in modules):
        return "dora"
    return "locon" if any(max(module.down.shape[2:], default=1) > 1 for module in modules) else "lora"


def write_files(
    modules: Sequence[LoraModule], metadata: Mapping[str, str], family: Family, folder: Path
) -> dict[AdapterFormat, Path]:
    """``metadata``: what is kept of an author's, or said of a merge. diffusers' file is left out if its metadata cannot
    express the adapter: DoRA on some layers only."""
    files: dict[AdapterFormat, Path] = {"kohya": folder / "adapter.safetensors"}
    kohya = to_kohya(modules)
    write_safetensors(files["kohya"], kohya, _describe(metadata, modules, kohya, family))
    if len({(row.network.diffusers_prefix, row.magnitude is None) for row in modules}) == len(_parts_of(modules)):
        files["diffusers"] = folder / "pytorch_lora_weights.safetensors"
        shared = {key: value for key, value in metadata.items() if key.startswith("modelspec.")}
        write_safetensors(files["diffusers"], to_diffusers(modules), shared | describe_for_diffusers(modules))
    return files


def _parts_of(modules: Sequence[LoraModule]) -> set[str]:
    return {module.network.diffusers_prefix for module in modules}


def _describe(
    kept: Mapping[str, str], modules: Sequence[LoraModule], tensors: Tensors, family: Family
) -> dict[str, str]:
    """The metadata that other tools rely on, if the file lacks it or names another family than its tensors show."""
    first, spec = modules[0], FAMILIES[family]
    of_family = {"ss_base_model_version": spec.metadata.base_version, "ss_v2": str(spec.ss_v2)}
    described = {
        **of_family,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(first.rank),
        "ss_network_alpha": str(first.alpha),
        **kept,
    }
    if a1111_family(described) != family:
        described |= of_family
    digest = hash_tensors(save(tensors))
    return described | {"sshs_model_hash": digest, "modelspec.hash_sha256": f"0x{digest}"}


def check_same(files: Mapping[AdapterFormat, Path], layers: BaseLayers) -> None:
    """The written files read back, and change the same layers in both formats."""
    places = [[module.layer for module in read_adapter(path, layers)] for path in files.values()]
    assert all(found == places[0] for found in places)
