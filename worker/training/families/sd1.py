"""Stable Diffusion 1.x: CLIP text encoder, 4-channel latents, UNet2DConditionModel; epsilon or v prediction."""

import gc
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from worker.training.device import free_memory
from worker.training.errors import BadInput
from worker.training.families.protocol import Conditioning, NoiseProcess, Posterior
from worker.training.process import DiffusionProcess

_ATTENTION = r"attn[12]\.(to_q|to_k|to_v|to_out\.0)"
_FEED_FORWARD = r"ff\.net\.(0\.proj|2)"
_PROJECTION = r"proj_(in|out)"
_CONVOLUTION = r"(conv1|conv2|conv_shortcut|time_emb_proj|downsamplers\.0\.conv|upsamplers\.0\.conv)"

_TARGETS = {
    "attention": (_ATTENTION,),
    "attention_ff": (_ATTENTION, _FEED_FORWARD),
    "all": (_ATTENTION, _FEED_FORWARD, _PROJECTION),
}


def load_sd1(folder: Path, device: torch.device, dtype: torch.dtype) -> "SD1Base":
    """Raises BadInput unless the folder is an SD 1.x in diffusers' layout."""
    try:
        unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", dtype=dtype, local_files_only=True)
        process = DiffusionProcess.from_folder(folder)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{folder.name} is no Stable Diffusion 1.x in diffusers' layout ({error})") from error
    return SD1Base(folder, unet.to(device=device), process, device)


class SD1Base:
    kohya_prefix = "lora_unet"
    diffusers_prefix = "unet"

    def __init__(
        self, folder: Path, unet: UNet2DConditionModel, process: DiffusionProcess, device: torch.device
    ) -> None:
        self.folder, self.device = folder, device
        self.denoiser: Any = unet
        self.process: NoiseProcess = process
        self._scheduler_config = process.config
        unet.requires_grad_(False).eval()

    def list_targets(self, adapter_type: str, targets: str) -> list[str]:
        return list_unet_targets(self.denoiser, adapter_type, targets)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Iterator[Conditioning]:
        tokenizer = CLIPTokenizer.from_pretrained(self.folder / "tokenizer", local_files_only=True)
        encoder = CLIPTextModel.from_pretrained(
            self.folder, subfolder="text_encoder", dtype=torch.float32, local_files_only=True
        ).to(self.device)
        length = encoder.config.max_position_embeddings
        for text in texts:
            row = tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
            states = encoder(row.input_ids.to(self.device)).last_hidden_state
            yield {"states": states[0].float().cpu()}
        del encoder
        self._forget()

    @torch.no_grad()
    def encode_pictures(self, pictures: Iterator[torch.Tensor]) -> Iterator[Posterior]:
        vae = self._open_vae()
        scale = vae.config.scaling_factor
        for picture in pictures:
            posterior = vae.encode(picture[None].to(self.device)).latent_dist
            yield Posterior((posterior.mean[0] * scale).cpu(), (posterior.std[0] * scale).cpu())
        del vae
        self._forget()

    def predict(
        self, noisy_BCHW: torch.Tensor, timesteps_B: torch.Tensor, conditioning: Sequence[Conditioning]
    ) -> torch.Tensor:
        states_BTD = torch.stack([row["states"] for row in conditioning]).to(noisy_BCHW.device)
        predicted: torch.Tensor = self.denoiser(noisy_BCHW, timesteps_B, states_BTD).sample
        return predicted

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Conditioning],
        empty: Conditioning,
        *,
        seeds: Sequence[int],
        num_steps: int,
        guidance_scale: float,
        side: int,
    ) -> list[Image.Image]:
        """By DDIM (arXiv 2010.02502) with trailing timesteps (arXiv 2305.08891, section 3.3)."""
        vae = self._open_vae()
        pipeline = StableDiffusionPipeline(
            vae=vae,
            text_encoder=None,
            tokenizer=None,
            unet=self.denoiser,
            scheduler=DDIMScheduler.from_config(self._scheduler_config, timestep_spacing="trailing", clip_sample=False),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        pictures: list[Image.Image] = pipeline(
            prompt_embeds=self._batch(prompts),
            negative_prompt_embeds=self._batch([empty] * len(prompts)),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            num_inference_steps=num_steps,
            guidance_scale=guidance_scale,
            height=side,
            width=side,
        ).images
        del pipeline, vae
        self._forget()
        return pictures

    def _batch(self, rows: Sequence[Conditioning]) -> torch.Tensor:
        return torch.stack([row["states"] for row in rows]).to(self.device)

    def _open_vae(self) -> AutoencoderKL:
        """In fp32: the encoders' half-precision overflows are known, and they run once per picture."""
        vae = AutoencoderKL.from_pretrained(self.folder, subfolder="vae", dtype=torch.float32, local_files_only=True)
        return vae.to(self.device).requires_grad_(False).eval()

    def _forget(self) -> None:
        gc.collect()
        free_memory(self.device)


def list_unet_targets(unet: torch.nn.Module, adapter_type: str, targets: str) -> list[str]:
    """The layers of any UNet2DConditionModel. On SD 1.x: 128 for attention, 160 with feed-forward, 192 for all;
    locon adds the residual blocks and samplers, as sd-scripts' LoCon does with a conv_dim."""
    inner = [rf".*\battentions\.\d+\.(.*\.)?{part}" for part in _TARGETS[targets]]
    if adapter_type == "locon":
        inner.append(rf".*\b(resnets\.\d+\.)?{_CONVOLUTION}")
    pattern = re.compile("|".join(f"(?:{part})" for part in inner))
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return [name for name, module in unet.named_modules() if isinstance(module, kinds) and pattern.fullmatch(name)]
