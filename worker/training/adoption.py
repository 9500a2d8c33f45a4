"""Checks an adapter made elsewhere against a base, and writes it anew in both formats.

    python -m worker.training.adoption PARENT_PID < order.json > answer.json

The order is an Adoption, the answer an Adopted. It ends with its parent. The base's networks are built from their
configs on the meta device: no weight of it is read.
"""

import json
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from core.domain.adoption import Adopted, Adoption, Findings
from core.domain.artifacts import AdapterFormat
from core.domain.model import Family
from worker.parent import die_with_parent
from worker.training.device import is_out_of_memory
from worker.training.errors import BadInput
from worker.training.families.clip import ClipNetwork
from worker.training.families.protocol import Network
from worker.training.families.recognition import find_family, read_config
from worker.training.families.sdxl import make_network
from worker.training.families.unet import UnetNetwork
from worker.training.formats import (
    BASE_VERSIONS,
    LoraModule,
    Tensors,
    describe_for_diffusers,
    hash_tensors,
    to_diffusers,
    to_kohya,
    write_safetensors,
)
from worker.training.proof.adapters import AdapterModule, read_adapter
from worker.training.proof.files import AdapterFile, read_file
from worker.training.proof.identify import AdapterKind, identify
from worker.training.proof.layers import BaseLayers, list_layers
from worker.training.proof.prove import a1111_family, prove

TRIGGER = "modelspec.trigger_phrase"
MAX_TRIGGER_CHARS, MAX_REFUSAL_CHARS = 100, 1000


def adopt(order: Adoption) -> Adopted:
    """Refusals are answers."""
    try:
        return _adopt(order)
    except BadInput as error:
        return Adopted(refusal=_printable(str(error), MAX_REFUSAL_CHARS))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return Adopted(refusal=f"it takes more than {order.memory_bytes:,} bytes of memory to read the file")


def _printable(text: str, max_chars: int) -> str:
    """A hostile file's names stand in what is said of it."""
    return "".join(char if char.isprintable() else "?" for char in text)[:max_chars]


def _adopt(order: Adoption) -> Adopted:
    file = read_file(order.file)
    kind = identify(file)
    networks = build_networks(order.family, order.model_folder)
    layers = list_layers(order.family, {network.diffusers_prefix: network.module for network in networks})
    modules = [_name(module, networks) for module in read_adapter(order.file, layers)]
    files = _write(modules, file, order)
    findings = Findings(
        type=_type_of(kind),
        rank=max(kind.ranks),
        trigger=_trigger_of(file),
        proofs={name: prove(read_file(path), layers) for name, path in files.items()},
    )
    _check_same(files, layers)
    return Adopted(findings=findings, files=files)


def build_networks(family: Family, folder: Path) -> list[Network]:
    """A base's networks without weights. Raises BadInput where the folder is of another family."""
    if (found := find_family(folder)) != family:
        raise BadInput(f"{folder.name} is of the family {found}, not {family}: register it again.")
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(read_config(folder, "unet/config.json"))
        first = CLIPTextModel(CLIPTextConfig(**read_config(folder, "text_encoder/config.json")))
        if family != "sdxl":
            return [UnetNetwork(unet), ClipNetwork(first, "lora_te", "text_encoder")]
        second = CLIPTextModelWithProjection(CLIPTextConfig(**read_config(folder, "text_encoder_2/config.json")))
    return [
        make_network(unet),
        ClipNetwork(first, "lora_te1", "text_encoder"),
        ClipNetwork(second, "lora_te2", "text_encoder_2"),
    ]


def _name(module: AdapterModule, networks: Sequence[Network]) -> LoraModule:
    """Raises BadInput for numbers that no picture can come of, and for a layer that our formats have no name for."""
    layer = module.layer
    if layer.path == "text_projection":
        raise BadInput("the file changes the text projection of the second text encoder, which most tools do not read")
    if module.down.dtype not in _PRECISIONS or module.up.dtype != module.down.dtype:
        raise BadInput(f"{layer.part}.{layer.path} is in {module.down.dtype} and {module.up.dtype}, no half or float")
    tensors = [tensor for tensor in (module.down, module.up, module.magnitude) if tensor is not None]
    if not all(torch.isfinite(tensor).all() for tensor in tensors):
        raise BadInput(f"{layer.part}.{layer.path} has NaN or infinite weights: the file is broken")
    network = next(network for network in networks if network.diffusers_prefix == layer.part)
    return LoraModule(network, layer.path, module.down, module.up, module.alpha, module.magnitude)


_PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)


def _type_of(kind: AdapterKind) -> Any:
    return "dora" if kind.dora else "locon" if kind.convolutions else "lora"


def _trigger_of(file: AdapterFile) -> str:
    return _printable(file.metadata.get(TRIGGER, "").strip(), MAX_TRIGGER_CHARS)


def _write(modules: Sequence[LoraModule], file: AdapterFile, order: Adoption) -> dict[AdapterFormat, Path]:
    """diffusers' file is left out where its metadata cannot say what the adapter is: DoRA on some layers only."""
    files: dict[AdapterFormat, Path] = {"kohya": order.folder / "adapter.safetensors"}
    described = _keep_described(file.metadata)
    kohya = to_kohya(modules)
    write_safetensors(files["kohya"], kohya, _describe(described, modules, kohya, order.family))
    if len({(row.network.diffusers_prefix, row.magnitude is None) for row in modules}) == len(_parts_of(modules)):
        files["diffusers"] = order.folder / "pytorch_lora_weights.safetensors"
        shared = {key: value for key, value in described.items() if key.startswith("modelspec.")}
        evened = _even_out(modules)
        write_safetensors(files["diffusers"], to_diffusers(evened), shared | _describe_for_diffusers(evened))
    return files


def _parts_of(modules: Sequence[LoraModule]) -> set[str]:
    return {module.network.diffusers_prefix for module in modules}


def _keep_described(metadata: Mapping[str, str]) -> dict[str, str]:
    """What the file's maker said of it, but the hashes: they are of bytes that are written anew here."""
    kept = {key: value for key, value in metadata.items() if key.startswith(("ss_", "modelspec."))}
    kept.pop("modelspec.hash_sha256", None)
    return kept


def _describe(
    kept: Mapping[str, str], modules: Sequence[LoraModule], tensors: Tensors, family: Family
) -> dict[str, str]:
    """The metadata that other tools go by, where the file lacks it or says another family than its tensors."""
    first = modules[0]
    described = {
        "ss_base_model_version": BASE_VERSIONS[family],
        "ss_v2": str(family == "sd2"),
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(first.rank),
        "ss_network_alpha": str(first.alpha),
        **kept,
    }
    if a1111_family(described) != family:
        described |= {"ss_base_model_version": BASE_VERSIONS[family], "ss_v2": str(family == "sd2")}
    digest = hash_tensors(save(tensors))
    return described | {"sshs_model_hash": digest, "modelspec.hash_sha256": f"0x{digest}"}


def _even_out(modules: Sequence[LoraModule]) -> list[LoraModule]:
    """With one alpha for each network, as diffusers' metadata states it: what differs goes into ``up``."""
    alphas: dict[str, float] = {}
    for module in modules:
        alphas.setdefault(module.network.diffusers_prefix, module.alpha)
    return [_with_alpha(module, alphas[module.network.diffusers_prefix]) for module in modules]


def _with_alpha(module: LoraModule, alpha: float) -> LoraModule:
    if alpha == module.alpha:
        return module
    up = (module.up.float() * (module.alpha / alpha)).to(module.up.dtype)
    return LoraModule(module.network, module.path, module.down, up, alpha, module.magnitude)


def _describe_for_diffusers(modules: Sequence[LoraModule]) -> dict[str, str]:
    """With the ranks of the layers that have another than their network's first: LyCORIS has one of its own for
    convolutions. By the paths' ends, as the targets."""
    described = describe_for_diffusers(modules)
    config = json.loads(described["lora_adapter_metadata"])
    for prefix in sorted(_parts_of(modules)):
        others = {
            module.path.removeprefix("text_model."): module.rank
            for module in modules
            if module.network.diffusers_prefix == prefix and module.rank != config[f"{prefix}.r"]
        }
        config |= {f"{prefix}.rank_pattern": others} if others else {}
    return described | {"lora_adapter_metadata": json.dumps(config, sort_keys=True)}


def _check_same(files: Mapping[AdapterFormat, Path], layers: BaseLayers) -> None:
    """What was written reads back, and changes the same layers in both formats."""
    places = [[module.layer for module in read_adapter(path, layers)] for path in files.values()]
    assert all(found == places[0] for found in places)


def limit_memory(memory_bytes: int) -> None:
    """Of this process from here on: what it allocates, not the files that it maps to read."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def main() -> None:
    """The answer has standard output for itself: what libraries print goes to the log."""
    die_with_parent(int(sys.argv[1]))
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        order = Adoption.model_validate_json(sys.stdin.buffer.read())
        limit_memory(order.memory_bytes)
        answers.write(adopt(order).model_dump_json().encode())


if __name__ == "__main__":
    main()
