"""Stable Diffusion 1.x: one CLIP text encoder (ViT-L), whose last layer's states are the U-Net's only conditioning."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import CLIPTextModel

from worker.engine.families.clip import Clip, ClipNetwork, ClipTextEncoders
from worker.engine.families.latent_diffusion import LatentDiffusion, load_denoiser
from worker.engine.families.protocol import Conditioning, Network, TextLimits
from worker.engine.families.unet import UnetNetwork


def load_sd1(folder: Path, device: torch.device, dtype: torch.dtype) -> "SD1Base":
    """Raises BadInput if the files cannot be read."""
    unet, noise_schedule = load_denoiser(folder, device, dtype)
    return SD1Base(folder, UnetNetwork(unet), noise_schedule, device)


class SD1TextEncoders(ClipTextEncoders):
    def __init__(self, folder: Path, device: torch.device, limits: TextLimits) -> None:
        self._clip = Clip(folder, "tokenizer", "text_encoder", CLIPTextModel, device)
        self.networks: Sequence[Network] = [ClipNetwork(self._clip.encoder, "lora_te", "text_encoder")]
        super().__init__([self._clip], limits)

    def encode(self, texts: Sequence[str]) -> list[Conditioning]:
        read = self._clip.read(*self._fit(texts))
        return [{"states": states_TD} for states_TD in read.join(read.answer.last_hidden_state.float())]


class SD1Base(LatentDiffusion):
    def open_text_encoders(self, limits: TextLimits = TextLimits()) -> SD1TextEncoders:
        return SD1TextEncoders(self.folder, self.device, limits)
