"""Writes what a run has learned as the pipeline folder that ``models/tiny`` is."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from transformers import CLIPTokenizer

from scripts.pretrain_tiny.networks import SCHEDULE, build_text_encoder, build_unet, build_vae
from scripts.pretrain_tiny.run import Run


def export(out: Path, vae: AutoencoderKL, run: Run, tokenizer: CLIPTokenizer) -> None:
    """The EMA weights, in fp16."""
    unet, text_encoder, twin = build_unet(), build_text_encoder(tokenizer), build_vae()
    for name, module in (("unet", unet), ("text_encoder", text_encoder)):
        state = module.state_dict()
        state |= {key.removeprefix(f"{name}."): v for key, v in run.ema.items() if key.startswith(f"{name}.")}
        module.load_state_dict(state)
    twin.load_state_dict(vae.state_dict())
    twin.register_to_config(scaling_factor=vae.config.scaling_factor)
    pipeline = StableDiffusionPipeline(
        vae=twin,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE, timestep_spacing="trailing", set_alpha_to_one=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(out)
