"""The networks that the tools walk, in their original code, at true shapes on the meta device."""

import argparse
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import torch
import yaml

META = torch.device("meta")
Shapes = dict[str, tuple[int, ...]]
OPENCLIP = {"sd2": "ViT-H-14", "sdxl": "ViT-bigG-14"}


def stand_in(*names: str) -> None:
    """Modules that answer every attribute, for imports that naming does not use."""
    for name in names:
        module = MagicMock(name=name)
        module.__spec__, module.__path__ = ModuleSpec(name, None), []
        sys.modules[name] = module


def clip_text(width: int, num_layers: int, feed_forward: int, projected: bool = False) -> torch.nn.Module:
    """A true CLIP text encoder of transformers 4, whose paths begin with text_model."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=width,
        num_hidden_layers=num_layers,
        intermediate_size=feed_forward,
        num_attention_heads=width // 64,
        projection_dim=width,
    )
    with META:
        return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def text_encoders(family: str) -> list[torch.nn.Module]:
    if family == "sd2":
        return [clip_text(1024, 23, 4096)]
    first = clip_text(768, 12, 3072)
    return [first] if family == "sd1" else [first, clip_text(1280, 32, 5120, projected=True)]


def layers_of(model: torch.nn.Module) -> Shapes:
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return {name: tuple(layer.weight.shape) for name, layer in model.named_modules() if isinstance(layer, kinds)}


def open_unet_config(args: argparse.Namespace, family: str) -> tuple[type[torch.nn.Module], dict[str, Any]]:
    """The original U-Net's class and configuration, as the original configuration files state them."""
    paths = {
        "sd1": args.a1111 / "configs/v1-inference.yaml",
        "sd2": args.ldm / "configs/stable-diffusion/v2-inference-v.yaml",
        "sdxl": args.sgm / "configs/inference/sd_xl_base.yaml",
    }
    params = yaml.safe_load(paths[family].read_text())["model"]["params"]
    settings = params["network_config" if family == "sdxl" else "unet_config"]["params"] | {"use_checkpoint": False}
    settings.pop("use_fp16", None)
    if family != "sdxl":
        sys.path.insert(0, str(args.ldm))
        from ldm.modules.diffusionmodules.openaimodel import UNetModel as Original
    else:
        for name in ("sgm", "sgm.modules", "sgm.modules.diffusionmodules"):
            package = ModuleType(name)
            package.__path__ = [str(args.sgm / name.replace(".", "/"))]
            sys.modules[name] = package
        stand_in("sgm.modules.video_attention", "sgm.util")
        sys.modules["sgm.util"].exists = lambda value: value is not None
        sys.modules["sgm.util"].default = lambda value, other: other if value is None else value
        settings["spatial_transformer_attn_type"] = "softmax"
        from sgm.modules.diffusionmodules.openaimodel import UNetModel as Original
    return Original, settings


def open_unet(args: argparse.Namespace, family: str) -> torch.nn.Module:
    original, settings = open_unet_config(args, family)
    with META:
        return original(**settings)


def open_clip_text(family: str) -> torch.nn.Module:
    import transformers  # noqa: F401  before torchvision is stood in for, which it looks for

    stand_in("torchvision", "torchvision.ops", "torchvision.ops.misc", "torchvision.transforms")
    stand_in("torchvision.transforms.functional")
    from open_clip import get_model_config
    from open_clip.model import CLIP

    with META:
        model = CLIP(**get_model_config(OPENCLIP[family]))
    del model.visual
    return model


def diffusers_unet(family: str) -> Shapes:
    from diffusers import UNet2DConditionModel

    with META:
        return layers_of(UNet2DConditionModel(**UNETS[family]))


_SD: dict[str, Any] = {"sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2}
UNETS: dict[str, dict[str, Any]] = {
    "sd1": _SD | {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd2": _SD | {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
    "sdxl": {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
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
