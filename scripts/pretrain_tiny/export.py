"""Writes the result of a run as the pipeline folder ``models/tiny``."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
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
    write_for_older_libraries(out)


def write_for_older_libraries(folder: Path) -> None:
    """transformers 4 reads the tokenizer from ``vocab.json`` and ``merges.txt``, and the text encoder by names that
    begin with ``text_model.``, as all files of Stable Diffusion have them; transformers 5 writes neither and reads
    both. Without those names version 4 leaves the encoder random, and only logs it."""
    model = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]
    pairs = (pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{pair}\n" for pair in pairs))
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False) + "\n")
    weights = folder / "text_encoder" / "model.safetensors"
    tensors = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
