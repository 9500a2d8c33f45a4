"""The jobs whose memory is compared, and a base of SD 1.5's size with random weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from core.model_folders import BUNDLED
from tests.fixtures.bases import write_tokenizer
from worker.engine.bases.inspection import inspect, write_card
from worker.engine.bases.single_file import CONFIGS
from worker.engine.families.recognition import read_config
from worker.engine.families.registry import FAMILIES
from worker.engine.memory.tracing import add_memory

TINY = BUNDLED / "tiny"
LAYOUT = CONFIGS / next(iter(FAMILIES))
"""SD 1.x's: the first family."""
NUM_TOKENS = 49_408


@dataclass(frozen=True)
class Case:
    """``spec``: beside what all cases have in common."""

    name: str
    base: Literal["tiny", "sd15"]
    title: str
    spec: Mapping[str, Any]


def _case(name: str, base: Literal["tiny", "sd15"], title: str, **spec: Any) -> Case:
    return Case(name, base, title, spec)


_LOCON = {"adapter": {"type": "locon", "targets": "all"}}
_LORA = {"adapter": {"type": "lora", "targets": "attention"}}
_SMALL = {"resolution": 256, **_LORA}
_SAVING = {"gradient_checkpointing": True}
_PLAIN = {"gradient_checkpointing": False}

CASES = [
    _case("tiny", "tiny", "as by default", **_PLAIN),
    _case("tiny-saved", "tiny", "with checkpointing", **_SAVING),
    _case("tiny-fp32", "tiny", "fp32, batch 16", precision="fp32", batch_size=16, **_PLAIN),
    _case("sd15", "sd15", "256 px", **_PLAIN, **_SMALL),
    _case("sd15-saved", "sd15", "256 px, with checkpointing", **_SAVING, **_SMALL),
    _case("sd15-batch", "sd15", "256 px, batch 4", batch_size=4, **_PLAIN, **_SMALL),
    _case("sd15-locon", "sd15", "256 px, locon on all, with checkpointing", resolution=256, **_SAVING, **_LOCON),
    _case("sd15-text", "sd15", "256 px, text encoder trained", text_encoder={"train": True}, **_PLAIN, **_SMALL),
    _case("sd15-512", "sd15", "512 px, with checkpointing", resolution=512, **_SAVING, **_LORA),
]


def write_sd15(folder: Path) -> None:
    """In fp16 as the published one, as random as the layers start, with its card."""
    torch.set_default_dtype(torch.float16)
    try:
        unet = UNet2DConditionModel.from_config(read_config(LAYOUT, "unet/config.json"))
        vae = AutoencoderKL.from_config(read_config(LAYOUT, "vae/config.json"))
        text_encoder = CLIPTextModel(CLIPTextConfig(**read_config(LAYOUT, "text_encoder/config.json")))
    finally:
        torch.set_default_dtype(torch.float32)
    StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=write_tokenizer(folder / "words", NUM_TOKENS), unet=unet,
        scheduler=DDIMScheduler.from_config(read_config(LAYOUT, "scheduler/scheduler_config.json")),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    write_card(folder, add_memory(inspect(folder, model_id="sd15"), folder))
