"""SDXL base (arXiv 2307.01952): two text encoders; the U-Net is also conditioned on the image's size and crop."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from worker.engine.families.clip import Clip, ClipNetwork, ClipTextEncoders
from worker.engine.families.latent_diffusion import LatentDiffusion, load_denoiser
from worker.engine.families.protocol import Conditioning, Network, SizeConditioning, TextLimits
from worker.engine.families.sgm_names import to_sgm
from worker.engine.families.unet import UnetNetwork


def load_sdxl(folder: Path, device: torch.device, dtype: torch.dtype) -> "SDXLBase":
    """Raises BadInput if the files cannot be read."""
    unet, noise_schedule = load_denoiser(folder, device, dtype)
    return SDXLBase(folder, make_network(unet), noise_schedule, device)


def make_network(unet: UNet2DConditionModel) -> UnetNetwork:
    return UnetNetwork(unet, rename_for_kohya=partial(to_sgm, unet.config))


class SDXLTextEncoders(ClipTextEncoders):
    """The states of both encoders' last but one layers side by side, and the second's pooled, projected output."""

    def __init__(self, folder: Path, device: torch.device, limits: TextLimits) -> None:
        self._first = Clip(folder, "tokenizer", "text_encoder", CLIPTextModel, device)
        self._second = Clip(folder, "tokenizer_2", "text_encoder_2", CLIPTextModelWithProjection, device)
        self._zeroes_empty: bool = StableDiffusionXLPipeline.load_config(folder).get(
            "force_zeros_for_empty_prompt", True
        )
        self.networks: Sequence[Network] = [
            ClipNetwork(self._first.encoder, "lora_te1", "text_encoder"),
            ClipNetwork(self._second.encoder, "lora_te2", "text_encoder_2"),
        ]
        super().__init__([self._first, self._second], limits)

    def encode(self, texts: Sequence[str]) -> list[Conditioning]:
        fitted, num_chunks = self._fit(texts)
        first = self._first.read(fitted, num_chunks, hidden_states=True)
        second = self._second.read(fitted, num_chunks, hidden_states=True)
        states_NTD = torch.cat([first.answer.hidden_states[-2], second.answer.hidden_states[-2]], dim=-1).float()
        pooled = second.pick_first(second.answer.text_embeds.float())
        rows = zip(texts, second.join(states_NTD), pooled, strict=True)
        return [self._describe(text, states_TD, pooled_D) for text, states_TD, pooled_D in rows]

    def _describe(self, text: str, states_TD: torch.Tensor, pooled_D: torch.Tensor) -> Conditioning:
        """SDXL learned to draw without a prompt from zeros, not from the encoders' output for an empty text."""
        if text == "" and self._zeroes_empty:
            states_TD, pooled_D = torch.zeros_like(states_TD), torch.zeros_like(pooled_D)
        return {"states": states_TD, "pooled": pooled_D}


class SDXLBase(LatentDiffusion):
    pipeline_options = {"add_watermarker": False}  # noqa: RUF012  # a mark would be a difference between pictures

    def open_text_encoders(self, limits: TextLimits = TextLimits()) -> SDXLTextEncoders:
        return SDXLTextEncoders(self.folder, self.device, limits)

    def encode_size_conditioning(self, framing: SizeConditioning) -> Conditioning:
        """Original size, crop and target size, each height first, in pixels (section 2.2 of the paper)."""
        return {"time_ids": torch.tensor([*framing.original, *framing.crop, *framing.target], dtype=torch.float32)}

    def _conditioning_inputs(self, rows: Sequence[Conditioning]) -> dict[str, Any]:
        added = {"text_embeds": self._batch(rows, "pooled"), "time_ids": self._batch(rows, "time_ids")}
        return {**super()._conditioning_inputs(rows), "added_cond_kwargs": added}
