"""The first two stages: an autoencoder over glyphs and drawings, and then its decoder alone."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from scripts.colors import BACKGROUNDS, MORE_BACKGROUNDS, Color
from scripts.drawings import draw_any
from scripts.glyphs import SIZE, compose, draw_pose, list_pictographs, sprite
from scripts.pretrain_tiny.networks import build_vae
from scripts.pretrain_tiny.run import Log, Run, constant_then_down
from scripts.styles import LOOKS, restyle

SEED = 20261
STEPS, RATE, CROPS, WHOLE, CROP = 7_000, 1.5e-3, 24, 8, 32
KL_WEIGHT, GRADIENT_WEIGHT, SQUARE_WEIGHT = 2e-6, 1.0, 3.0
POOL = 24_000
DECODER_STEPS, DECODER_RATE, DECODER_SQUARE_WEIGHT = 4_000, 1e-3, 10.0

Loss = Callable[[AutoencoderKL, torch.Tensor, torch.Generator], torch.Tensor]


def draw_background(rng: random.Random) -> Color:
    if rng.random() < 0.3:
        return rng.randrange(256), rng.randrange(256), rng.randrange(256)
    return rng.choice([*BACKGROUNDS.values(), *MORE_BACKGROUNDS.values()])


def draw_pool(count: int) -> torch.Tensor:
    """uint8, (count, 3, 64, 64): half glyphs, a part of them in other looks, half drawings."""
    rng, chars = random.Random(f"{SEED}:pool"), list_pictographs()
    pool = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for index in range(count):
        if index % 2:
            art = sprite(rng.choice(chars))
            art = restyle(rng, art, rng.choice(LOOKS))[0] if rng.random() < 0.3 else art
        else:
            art = draw_any(rng).image
        pose = draw_pose(rng, rng.choice(("large", "large", "small")))
        pool[index] = np.asarray(compose(art, draw_background(rng), pose))
    return torch.from_numpy(pool).permute(0, 3, 1, 2).contiguous()


def to_unit(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 -> float -1..1."""
    return pixels.float() / 127.5 - 1.0


def image_gradient_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    dx = (a.diff(dim=-1) - b.diff(dim=-1)).abs().mean()
    return dx + (a.diff(dim=-2) - b.diff(dim=-2)).abs().mean()


def train_autoencoder(build: Path, device: torch.device) -> AutoencoderKL:
    """Three steps of four use crops, which are cheap; the fourth uses whole images."""
    torch.manual_seed(SEED)
    vae = build_vae().to(device, memory_format=torch.channels_last)
    run = Run(build / "vae.safetensors", {"vae": vae}, ema_decay=0.998)
    _train(run, vae, device, STEPS, RATE, _compute_loss)
    return vae.eval()


def train_decoder(build: Path, vae: AutoencoderKL) -> None:
    """Further, with the encoder as it is: what is trained on its latents stays valid."""
    modules = {"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv}
    run = Run(build / "decoder.safetensors", modules, ema_decay=0.998)
    vae.encoder.requires_grad_(False)
    _train(run, vae, vae.device, DECODER_STEPS, DECODER_RATE, _compute_decoder_loss)


def _train(run: Run, vae: AutoencoderKL, device: torch.device, steps: int, rate: float, compute_loss: Loss) -> None:
    if run.step < steps:
        pool, log = draw_pool(POOL), Log(run.file.stem, run.step, steps)
        while run.step < steps:
            rng = torch.Generator().manual_seed(SEED * 1_000_003 + run.step)
            pixels = _pick(pool, run.step, rng).to(device, memory_format=torch.channels_last)
            loss = compute_loss(vae, pixels, rng)
            run.update(loss, constant_then_down(run.step, steps, rate, cool=0.4))
            log.add(run.step, loss.item())
            if run.step % 500 == 0:
                run.save()
        run.save()
    run.use_ema()


def _pick(pool: torch.Tensor, step: int, rng: torch.Generator) -> torch.Tensor:
    whole = step % 4 == 3
    pixels = to_unit(pool[torch.randint(len(pool), (WHOLE if whole else CROPS,), generator=rng)])
    if whole:
        return pixels
    top, left = (4 * torch.randint(0, (SIZE - CROP) // 4 + 1, (2,), generator=rng)).tolist()
    return pixels[:, :, top : top + CROP, left : left + CROP]


def _compute_loss(vae: AutoencoderKL, pixels: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    with torch.autocast(pixels.device.type, torch.bfloat16):
        posterior = vae.encode(pixels).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=rng).to(pixels.device)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample.float()
    return _compare(decoded, pixels, SQUARE_WEIGHT) + KL_WEIGHT * posterior.kl().float().mean()


def _compute_decoder_loss(vae: AutoencoderKL, pixels: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    with torch.autocast(pixels.device.type, torch.bfloat16):
        with torch.no_grad():
            posterior = vae.encode(pixels).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=rng).to(pixels.device)
            latents = posterior.mean + posterior.std * noise
        decoded = vae.decode(latents).sample.float()
    return _compare(decoded, pixels, DECODER_SQUARE_WEIGHT)


def _compare(decoded: torch.Tensor, pixels: torch.Tensor, square_weight: float) -> torch.Tensor:
    loss = F.l1_loss(decoded, pixels) + square_weight * F.mse_loss(decoded, pixels)
    return loss + GRADIENT_WEIGHT * image_gradient_loss(decoded, pixels)
