"""Checks an imported adapter against a base, and rewrites it in both formats.

    python -m worker.engine.adapter_files.importing PARENT_PID < request.json > result.json

The input is an ImportRequest, the output an ImportResult. It ends with its parent. The base's networks are built on the
meta device from their configs: no weight of the base is read.
"""

import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save

from core.domain.adapter_import import Findings, IgnoredKey, ImportRequest, ImportResult
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
from worker.engine.adapter_files.proof.adapters import AdapterModule, read_adapter, read_modules
from worker.engine.adapter_files.proof.files import AdapterFile, read_file
from worker.engine.adapter_files.proof.fitting import fit
from worker.engine.adapter_files.proof.layers import BaseLayers, list_layers
from worker.engine.adapter_files.proof.loaded_files import prove_files
from worker.engine.adapter_files.proof.prove import a1111_family
from worker.engine.device import is_out_of_memory
from worker.engine.errors import BadInput
from worker.engine.families.protocol import Network
from worker.engine.families.registry import FAMILIES, build_networks
from worker.parent import die_with_parent

TRIGGER = "modelspec.trigger_phrase"
MAX_TRIGGER_CHARS, MAX_KEY_CHARS, MAX_REFUSAL_CHARS = 100, 200, 1000


def import_adapter(order: ImportRequest) -> ImportResult:
    """Refusals are answers."""
    try:
        return _import_adapter(order)
    except BadInput as error:
        return ImportResult(refusal=_printable(str(error), MAX_REFUSAL_CHARS))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return ImportResult(refusal=f"reading the file takes more than {order.memory_bytes:,} bytes of memory")


def _printable_all(ignored: Sequence[IgnoredKey]) -> tuple[IgnoredKey, ...]:
    return tuple(
        IgnoredKey(key=_printable(row.key, MAX_KEY_CHARS), reason=_printable(row.reason, MAX_REFUSAL_CHARS))
        for row in ignored
    )


def _printable(text: str, max_chars: int) -> str:
    """Messages contain names from a file that may be hostile."""
    return "".join(char if char.isprintable() else "?" for char in text)[:max_chars]


def _import_adapter(order: ImportRequest) -> ImportResult:
    file = read_file(order.file)
    networks = build_networks(order.family, order.model_folder)
    layers = list_layers(order.family, networks)
    found = fit(file, layers)
    read = read_modules(order.file, file, found, layers)
    modules = [_name(module, networks) for module in read]
    files = _write(modules, file, order)
    findings = Findings(
        type=_type_of(modules),
        rank=max(module.rank for module in modules),
        trigger=_trigger_of(file),
        proofs=prove_files(layers, networks, files, read),
        ignored=_printable_all(found.list_ignored()),
        num_ignored=len(found.ignored),
    )
    _check_same(files, layers)
    return ImportResult(findings=findings, files=files)


def _name(module: AdapterModule, networks: Sequence[Network]) -> LoraModule:
    """Raises BadInput for numbers that cannot give an image."""
    layer = module.layer
    tensors = [tensor for tensor in (module.down, module.up, module.magnitude) if tensor is not None]
    if not all(torch.isfinite(tensor).all() for tensor in tensors):
        raise BadInput(f"{layer.part}.{layer.path} has NaN or infinite weights: the file is broken")
    network = next(network for network in networks if network.diffusers_prefix == layer.part)
    return LoraModule(network, layer.path, module.down, module.up, module.alpha, module.magnitude)


def _type_of(modules: Sequence[LoraModule]) -> AdapterType:
    if any(module.magnitude is not None for module in modules):
        return "dora"
    return "locon" if any(max(module.down.shape[2:], default=1) > 1 for module in modules) else "lora"


def _trigger_of(file: AdapterFile) -> str:
    return _printable(file.metadata.get(TRIGGER, "").strip(), MAX_TRIGGER_CHARS)


def _write(modules: Sequence[LoraModule], file: AdapterFile, order: ImportRequest) -> dict[AdapterFormat, Path]:
    """diffusers' file is left out if its metadata cannot express the adapter: DoRA on some layers only."""
    files: dict[AdapterFormat, Path] = {"kohya": order.folder / "adapter.safetensors"}
    described = _keep_described(file.metadata)
    kohya = to_kohya(modules)
    write_safetensors(files["kohya"], kohya, _describe(described, modules, kohya, order.family))
    if len({(row.network.diffusers_prefix, row.magnitude is None) for row in modules}) == len(_parts_of(modules)):
        files["diffusers"] = order.folder / "pytorch_lora_weights.safetensors"
        shared = {key: value for key, value in described.items() if key.startswith("modelspec.")}
        write_safetensors(files["diffusers"], to_diffusers(modules), shared | describe_for_diffusers(modules))
    return files


def _parts_of(modules: Sequence[LoraModule]) -> set[str]:
    return {module.network.diffusers_prefix for module in modules}


def _keep_described(metadata: Mapping[str, str]) -> dict[str, str]:
    """The author's metadata without the hashes: they are of bytes that are rewritten here."""
    kept = {key: value for key, value in metadata.items() if key.startswith(("ss_", "modelspec."))}
    kept.pop("modelspec.hash_sha256", None)
    return kept


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


def _check_same(files: Mapping[AdapterFormat, Path], layers: BaseLayers) -> None:
    """The written files read back, and change the same layers in both formats."""
    places = [[module.layer for module in read_adapter(path, layers)] for path in files.values()]
    assert all(found == places[0] for found in places)


def limit_memory(memory_bytes: int) -> None:
    """Limits this process's allocations from here on, but not the files that it maps to read."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def main() -> None:
    """Standard output is for the answer alone: output of libraries goes to the log."""
    die_with_parent(int(sys.argv[1]))
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        order = ImportRequest.model_validate_json(sys.stdin.buffer.read())
        limit_memory(order.memory_bytes)
        answers.write(import_adapter(order).model_dump_json().encode())


if __name__ == "__main__":
    main()
