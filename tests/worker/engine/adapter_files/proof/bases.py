"""The bases' true shapes on the meta device, the golden lists, and files without weights."""

import gzip
import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from worker.engine.adapter_files.formats import LoraModule, describe_for_diffusers, to_diffusers, to_kohya
from worker.engine.adapter_files.proof.files import AdapterFile
from worker.engine.adapter_files.proof.layers import BaseLayers, list_layers
from worker.engine.families.clip import ClipNetwork
from worker.engine.families.protocol import Network
from worker.engine.families.sdxl import make_network
from worker.engine.families.unet import UnetNetwork

FAMILIES = ("sd1", "sd2", "sdxl")
GOLDEN = Path(__file__).parents[2] / "golden" / "names.json.gz"
RANK = 4

_SD: dict[str, Any] = {"sample_size": 64, "layers_per_block": 2}
_UNETS: dict[str, dict[str, Any]] = {
    "sd1": _SD | {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768},
    "sd2": _SD
    | {
        "block_out_channels": (320, 640, 1280, 1280),
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    "sdxl": {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
_TEXTS: dict[str, tuple[dict[str, int], ...]] = {
    "sd1": ({"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},),
    "sd2": ({"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16},),
    "sdxl": (
        {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
        {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20},
    ),
}


@cache
def golden() -> dict[str, Any]:
    return dict(json.loads(gzip.decompress(GOLDEN.read_bytes())))


@cache
def networks(family: str) -> tuple[Network, ...]:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**_UNETS[family])
        texts = [
            (CLIPTextModelWithProjection if index else CLIPTextModel)(
                CLIPTextConfig(projection_dim=config["hidden_size"], **config)
            )
            for index, config in enumerate(_TEXTS[family])
        ]
    if family != "sdxl":
        return UnetNetwork(unet), ClipNetwork(texts[0], "lora_te", "text_encoder")
    return (
        make_network(unet),
        ClipNetwork(texts[0], "lora_te1", "text_encoder"),
        ClipNetwork(texts[1], "lora_te2", "text_encoder_2"),
    )


@cache
def base(family: str) -> BaseLayers:
    return list_layers(family, networks(family))


def modules(family: str, kind: str, targets: str, *, text: bool = True, alpha: float = 2.0) -> list[LoraModule]:
    """What the exporter is given after training, without weights."""
    return [
        _module(network, path, alpha, dora=kind == "dora")
        for network in networks(family)[: None if text else 1]
        for path in network.list_targets(kind, targets)
    ]


def _module(network: Network, path: str, alpha: float, *, dora: bool) -> LoraModule:
    outputs, inputs, *kernel = network.module.get_submodule(path).weight.shape
    ones = [1] * len(kernel)
    return LoraModule(
        network=network,
        path=path,
        down=torch.zeros(RANK, inputs, *kernel, device="meta"),
        up=torch.zeros(outputs, RANK, *ones, device="meta"),
        alpha=alpha,
        magnitude=torch.ones(*([1] if kernel else []), outputs, *ones, device="meta") if dora else None,
    )


def kohya_file(family: str, found: Iterable[LoraModule]) -> AdapterFile:
    version = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}[family]
    tensors = to_kohya(list(found))
    return AdapterFile(
        {key: tuple(tensor.shape) for key, tensor in tensors.items()},
        {"ss_base_model_version": version, "ss_v2": str(family == "sd2")},
        {key: float(tensor) for key, tensor in tensors.items() if key.endswith(".alpha")},
    )


def diffusers_file(found: Iterable[LoraModule]) -> AdapterFile:
    """With alpha = rank, as such files are written: here are no numbers to scale."""
    rows = [replace(row, alpha=float(row.rank)) for row in found]
    shapes = {key: tuple(tensor.shape) for key, tensor in to_diffusers(rows).items()}
    return AdapterFile(shapes, describe_for_diffusers(rows))
