"""The load proof of a training's files: what diffusers' loader adds to each layer, held against what was trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from core.domain.artifacts import AdapterFormat
from core.domain.plan import TrainPlan
from core.domain.proof import LoadProof
from worker.engine.adapter_files.formats import LoraModule
from worker.engine.adapter_files.proof.adapters import AdapterModule
from worker.engine.adapter_files.proof.files import read_file
from worker.engine.adapter_files.proof.layers import Layer, list_layers
from worker.engine.adapter_files.proof.measured import load_in_diffusers
from worker.engine.adapter_files.proof.prove import prove
from worker.engine.families.registry import build_networks


def prove_files(
    folder: Path, plan: TrainPlan, files: Mapping[AdapterFormat, Path], trained: Sequence[LoraModule]
) -> dict[AdapterFormat, LoadProof]:
    """``folder``: the base's, of which only the configuration is read. ``trained``: the contents of the files."""
    networks = {network.diffusers_prefix: network.module for network in build_networks(plan.family, folder)}
    layers, wanted = list_layers(plan.family, networks), [_name(module) for module in trained]
    return {
        name: prove(read_file(path), layers, load_in_diffusers(path, plan.family, networks, wanted))
        for name, path in files.items()
    }


def _name(module: LoraModule) -> AdapterModule:
    layer = Layer(module.network.diffusers_prefix, module.network.diffusers_path(module.path))
    return AdapterModule(layer, module.down, module.up, module.alpha, module.magnitude)
