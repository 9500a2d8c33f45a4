"""Stable Diffusion 2.x: SD 1.x with OpenCLIP's ViT-H as its text encoder; epsilon (512 pixels) or v (768).

The differences are in the configs. The U-Net was trained on the states of the encoder's last but one layer, which
diffusers' layout expresses by leaving out the last one (23 layers of 24): so the last existing one is right. Kohya's
tools name the text encoder `lora_te`, as for SD 1.x, and its layers 0 to 22.
"""

from pathlib import Path

import torch

from worker.engine.families.latent_diffusion import load_denoiser
from worker.engine.families.sd1 import SD1Base
from worker.engine.families.unet import UnetNetwork


def load_sd2(folder: Path, device: torch.device, dtype: torch.dtype) -> "SD2Base":
    """Raises BadInput if the files cannot be read."""
    unet, noise_schedule = load_denoiser(folder, device, dtype)
    return SD2Base(folder, UnetNetwork(unet), noise_schedule, device)


class SD2Base(SD1Base):
    pass
