"""The common part of the families with a UNet2DConditionModel over the latents of an AutoencoderKL."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel

from worker.engine.device import free_memory
from worker.engine.errors import BadInput
from worker.engine.families.long_texts import lengthen_empty, stack_states
from worker.engine.families.noise import load_noise_schedule
from worker.engine.families.protocol import (
    Conditioning,
    Network,
    NoiseSchedule,
    Posterior,
    SamplingParams,
    SizeConditioning,
    TextEncoders,
    TextLimits,
)

SMALL_ATTENTION = 64 * 128
"""Queries times keys."""


def load_denoiser(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[UNet2DConditionModel, NoiseSchedule]:
    """Raises BadInput for a folder that is not such a base."""
    try:
        unet = UNet2DConditionModel.from_pretrained(
            folder, subfolder="unet", dtype=dtype, local_files_only=True, use_safetensors=True
        )
        noise_schedule = load_noise_schedule(folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{folder.name} cannot be read as a base in diffusers' layout ({error})") from error
    return unet.to(device=device).requires_grad_(False).eval(), noise_schedule


class CpuAttention(AttnProcessor2_0):  # type: ignore[misc]
    """In train mode, attention of few positions by plain matrix products: there the backward pass of PyTorch's flash
    attention for CPUs takes five times as long (6.8 ms against 1.3 for 16 images of 64 positions, 4 heads of 32). The
    teacher's prediction is made in train mode too."""

    def __call__(
        self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None, **options: Any
    ) -> torch.Tensor:
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        is_small = hidden_states.shape[1] * seen.shape[1] <= SMALL_ATTENTION
        with sdpa_kernel(SDPBackend.MATH) if is_small and attn.training else nullcontext():
            attended: torch.Tensor = super().__call__(attn, hidden_states, encoder_hidden_states, **options)
        return attended


class LatentDiffusion:
    """A base without its text encoders and the denoiser's inputs from them."""

    def __init__(self, folder: Path, denoiser: Network, noise_schedule: NoiseSchedule, device: torch.device) -> None:
        self.folder, self.device = folder, device
        self.denoiser: Network = denoiser
        if device.type == "cpu":
            denoiser.module.set_attn_processor(CpuAttention())
        self.noise_schedule: NoiseSchedule = noise_schedule
        self.latent_factor = 2 ** (len(AutoencoderKL.load_config(folder, subfolder="vae")["block_out_channels"]) - 1)

    def image_seq_len(self, latent_height: int, latent_width: int) -> int:
        """A U-Net reads every position by itself."""
        return latent_height * latent_width

    def open_text_encoders(self, limits: TextLimits = TextLimits()) -> TextEncoders:
        raise NotImplementedError

    def encode_size_conditioning(self, framing: SizeConditioning) -> Conditioning:
        return {}

    @torch.no_grad()
    def encode_images(self, images: Iterator[torch.Tensor]) -> Iterator[Posterior]:
        """diffusers' scaling: latents = (z - shift) * scale. fp32, whatever the encoder computed in."""
        vae = self._open_vae()
        scale, shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0
        for image in images:
            posterior = vae.encode(image[None].to(self.device)).latent_dist
            mean, std = posterior.mean[0].float(), posterior.std[0].float()
            yield Posterior(((mean - shift) * scale).cpu(), (std * scale).cpu())
        del vae
        self.free()

    def features(self, latents: torch.Tensor) -> torch.Tensor:
        """All numbers of a sample's latents."""
        return latents.flatten(1)

    @torch.no_grad()
    def decode(self, latents_BCHW: torch.Tensor) -> list[Image.Image]:
        """One after the other: the decoder takes several GB for 1024 pixels in fp32."""
        vae = self._open_vae()
        scaled = latents_BCHW.to(self.device) / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
        images = [_to_image(vae.decode(latents_CHW[None]).sample[0]) for latents_CHW in scaled]
        del vae
        self.free()
        return images

    def predict(
        self, noisy_BCHW: torch.Tensor, timesteps_B: torch.Tensor, conditioning: Sequence[Conditioning]
    ) -> torch.Tensor:
        inputs = self._conditioning_inputs(conditioning)
        predicted: torch.Tensor = self.denoiser.module(noisy_BCHW, timesteps_B, **inputs).sample
        return predicted

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Conditioning],
        negative: Conditioning,
        seeds: Sequence[int],
        params: SamplingParams,
        after_step: Callable[[], None] = lambda: None,
    ) -> torch.Tensor:
        """Texts of different lengths are drawn one length after the other, each with an empty text of the same
        length. What training has left free is given back first."""
        free_memory(self.device)
        lengths = [len(prompt["states"]) for prompt in prompts]
        drawn: dict[int, torch.Tensor] = {}
        for length in dict.fromkeys(lengths):
            chosen = [index for index, each in enumerate(lengths) if each == length]
            empty = {**negative, "states": lengthen_empty(negative["states"], length)}
            alike = [prompts[i] for i in chosen]
            rows = self._sample_alike(alike, empty, [seeds[i] for i in chosen], params, after_step)
            drawn |= dict(zip(chosen, rows, strict=True))
        return torch.stack([drawn[index] for index in range(len(prompts))])

    def _sample_alike(
        self,
        prompts: Sequence[Conditioning],
        negative: Conditioning,
        seeds: Sequence[int],
        params: SamplingParams,
        after_step: Callable[[], None],
    ) -> torch.Tensor:
        scheduler = self._open_sampler(params)
        scheduler.set_timesteps(params.num_steps, device=self.device)
        latents_BCHW: torch.Tensor = self._draw_noise(seeds, params).to(self.device) * scheduler.init_noise_sigma
        plain = [self._whole(row, params) for row in prompts]
        guided = [self._whole(negative, params)] * len(prompts) + plain
        for step, timestep in enumerate(scheduler.timesteps):
            rows = guided if params.is_guided(step) else plain
            noisy = scheduler.scale_model_input(latents_BCHW, timestep).to(self.denoiser.module.dtype)
            repeated = noisy.repeat(len(rows) // len(noisy), 1, 1, 1)
            predicted = self.predict(repeated, timestep.expand(len(rows)), rows).float()
            if params.is_guided(step):
                predicted = _guide(predicted, params)
            latents_BCHW = scheduler.step(predicted, timestep, latents_BCHW).prev_sample
            after_step()
        return latents_BCHW.cpu()

    def _whole(self, row: Conditioning, params: SamplingParams) -> Conditioning:
        """A prompt's conditioning for an image that is neither cropped nor enlarged, in the denoiser's precision."""
        size = (params.height, params.width)
        whole = {**row, **self.encode_size_conditioning(SizeConditioning(size, (0, 0), size))}
        return {name: value.to(self.denoiser.module.dtype) for name, value in whole.items()}

    def _draw_noise(self, seeds: Sequence[int], params: SamplingParams) -> torch.Tensor:
        """(B, C, H, W) on the CPU, each from its own generator, so that an image does not depend on its batch."""
        shape = (self.denoiser.module.config.in_channels, *self._latent_size(params))
        return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

    def _latent_size(self, params: SamplingParams) -> tuple[int, int]:
        """Height, width."""
        return params.height // self.latent_factor, params.width // self.latent_factor

    def _open_sampler(self, params: SamplingParams) -> Any:
        return self.noise_schedule.open_sampler(self.image_seq_len(*self._latent_size(params)))

    def free(self) -> None:
        gc.collect()
        free_memory(self.device)

    def _conditioning_inputs(self, rows: Sequence[Conditioning]) -> dict[str, Any]:
        """The U-Net's arguments after latents and timesteps."""
        states_BTD, mask_BT = stack_states([row["states"].to(self.device) for row in rows])
        inputs = {"encoder_hidden_states": states_BTD}
        return inputs if mask_BT is None else {**inputs, "encoder_attention_mask": mask_BT}

    def _batch(self, rows: Sequence[Conditioning], name: str) -> torch.Tensor:
        return torch.stack([row[name].to(self.device) for row in rows])

    def _open_vae(self) -> AutoencoderKL:
        """Its weights in fp32: what runs in bf16 is cast by autocast. What the denoiser has left free is given back
        first."""
        free_memory(self.device)
        vae = AutoencoderKL.from_pretrained(
            self.folder, subfolder="vae", dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
        return vae.to(self.device).requires_grad_(False).eval()


def _guide(predicted: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Classifier-free guidance (arXiv 2207.12598) over the predictions for the negative prompt and the prompt,
    rescaled."""
    negative_BCHW, prompt_BCHW = predicted.chunk(2)
    guided = negative_BCHW + params.guidance_scale * (prompt_BCHW - negative_BCHW)
    if params.guidance_rescale:
        guided = rescale_noise_cfg(guided, prompt_BCHW, guidance_rescale=params.guidance_rescale)
    return guided


def _to_image(pixels_CHW: torch.Tensor) -> Image.Image:
    return Image.fromarray((pixels_CHW / 2 + 0.5).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy())
