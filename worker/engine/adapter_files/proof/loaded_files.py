"""The load proof of files whose contents are known: what diffusers' loader adds to each layer, held against them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from core.domain.artifacts import AdapterFormat
from core.domain.proof import LoadProof
from worker.engine.adapter_files.formats import LoraModule
from worker.engine.adapter_files.proof.adapters import AdapterModule
from worker.engine.adapter_files.proof.files import read_file
from worker.engine.adapter_files.proof.layers import BaseLayers, Layer
from worker.engine.adapter_files.proof.measured import load_in_diffusers
from worker.engine.adapter_files.proof.prove import prove
from worker.engine.families.protocol import Network


def prove_files(
    layers: BaseLayers,
    networks: Sequence[Network],
    files: Mapping[AdapterFormat, Path],
    modules: Sequence[AdapterModule],
) -> dict[AdapterFormat, LoadProof]:
    """``networks``: the base's, also on the meta device, and ``layers`` their layers. ``modules``: the contents of the
    files."""
    return {
        name: prove(read_file(path), layers, load_in_diffusers(path, layers.family, networks, modules))
        for name, path in files.items()
    }


def describe_modules(trained: Sequence[LoraModule]) -> list[AdapterModule]:
    """A training's layers, by their names in files."""
    return [
        AdapterModule(
            Layer(module.network.diffusers_prefix, module.network.diffusers_path(module.path)),
            module.down, module.up, module.alpha, module.magnitude,
        )
        for module in trained
    ]  # fmt: skip
