"""Pretrains ``tiny``, the bundled base: a Stable Diffusion 1.x in diffusers' layout at 64x64 pixels.

    python -m scripts.pretrain_tiny [--out build/tiny/pipeline] [--build build/tiny] [--steps N] [--device cuda]

Three stages, each seeded and resumable (a killed run continues from its last checkpoint):

1. an autoencoder, 4 times down, over glyphs and drawings (``autoencoder.py``);
2. its decoder alone, further;
3. the U-Net and the CLIP text encoder together (below), v-prediction on a schedule with zero terminal SNR (arXiv
   2305.08891, sections 3.1 and 3.2): with SD's own schedule a 64x64 image keeps so much signal at the last timestep
   that flat backgrounds come out in the wrong hue. Invented words replace some names and precede others, so that an
   unknown word leaves the rest of the image as the caption says.

The held-out glyphs of ``scripts.glyphs`` are in no stage. Random draws come from generators seeded by (seed,
stage, step), so a resumed run gets the same as an undisturbed one.
"""

import argparse
import json
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextModel, CLIPTokenizer

from scripts.pretrain_tiny.autoencoder import to_unit, train_autoencoder, train_decoder
from scripts.pretrain_tiny.export import export
from scripts.pretrain_tiny.grow import find_rotation, grow_text_encoder, grow_unet
from scripts.pretrain_tiny.networks import SCHEDULE, build_text_encoder, build_tokenizer, build_unet
from scripts.pretrain_tiny.pictures import Item, draw_pictures, encode_pictures
from scripts.pretrain_tiny.run import Log, Run, constant_then_down

SEED = 20262
STEPS, RATE, BATCH, EMA_DECAY, PICTURES = 40_000, 1e-3, 32, 0.999, 48_000


def open_latents(build: Path, vae: AutoencoderKL) -> tuple[torch.Tensor, list[Item]]:
    """Drawn and encoded once, which takes minutes."""
    cache, words = build / "latents.safetensors", build / "items.json"
    if not cache.exists():
        latents, items = encode_pictures(vae, PICTURES, f"{SEED}:pictures")
        save_file({"latents": latents}, cache)
        save_items(items, words)
    if not words.exists():
        save_items([item for _, item in draw_pictures(PICTURES, f"{SEED}:pictures")], words)
    return load_file(cache)["latents"], [Item.load(row) for row in json.loads(words.read_text())]


def save_items(items: list[Item], path: Path) -> None:
    path.write_text(json.dumps([asdict(item) for item in items]))


def open_tokenizer(build: Path, items: list[Item]) -> CLIPTokenizer:
    rng = random.Random(f"{SEED}:words")
    common = "photo picture drawing of the in with and an at style person man woman child toy character sks"
    return build_tokenizer(build / "tokenizer", [item.write(rng) for item in items] + common.split() * 9)


class Captions:
    """Token ids of captions, each text encoded once."""

    def __init__(self, tokenizer: CLIPTokenizer, items: list[Item]) -> None:
        self._tokenizer, self._items, self._ids = tokenizer, items, dict[str, torch.Tensor]()

    def draw(self, indices: list[int], rng: random.Random) -> torch.Tensor:
        """(len(indices), 77) token ids."""
        return torch.stack([self._encode(self._items[index].write(rng)) for index in indices])

    def _encode(self, text: str) -> torch.Tensor:
        if text not in self._ids:
            row = self._tokenizer(text, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
            self._ids[text] = row.input_ids[0].to(torch.int32)
        return self._ids[text].long()


def train_unet(build: Path, out: Path, vae: AutoencoderKL, steps: int, grow_from: Path | None) -> None:
    device = vae.device
    latents, items = open_latents(build, vae)
    tokenizer = open_tokenizer(build, items)
    scale = float(1.0 / latents.float().std())
    vae.register_to_config(scaling_factor=scale)
    torch.manual_seed(SEED)
    text_encoder = build_text_encoder(tokenizer).to(device)
    unet = build_unet().to(device, memory_format=torch.channels_last)
    print(f"unet: {len(latents)} latents, scaling factor {scale:.4f}, vocabulary {len(tokenizer)}", flush=True)
    if grow_from is not None:
        grow(unet, text_encoder, tokenizer, vae, grow_from)
    captions, scheduler = Captions(tokenizer, items), DDPMScheduler(**SCHEDULE)
    run = Run(build / "unet.safetensors", {"unet": unet, "text_encoder": text_encoder}, EMA_DECAY)
    log = Log("unet", run.step, steps)
    while run.step < steps:
        rng = torch.Generator().manual_seed(SEED * 1_000_003 + run.step)
        picks = torch.randint(len(latents), (BATCH,), generator=rng)
        clean = latents[picks].float() * scale
        noise = torch.randn(clean.shape, generator=rng)
        # spread over the batch: one draw in each of its equal parts
        spread = (torch.arange(BATCH) + torch.rand(BATCH, generator=rng)) / BATCH
        timesteps = (spread * scheduler.config.num_train_timesteps).long()
        target = scheduler.get_velocity(clean, noise, timesteps).to(device)
        noisy = scheduler.add_noise(clean, noise, timesteps).to(device, memory_format=torch.channels_last)
        tokens = captions.draw(picks.tolist(), random.Random(f"{SEED}:captions:{run.step}")).to(device)
        # at these lengths PyTorch's flash attention for the CPU is slower than plain matrix products
        with sdpa_kernel(SDPBackend.MATH):
            with torch.autocast(device.type, torch.bfloat16):
                predicted = unet(noisy, timesteps.to(device), text_encoder(tokens).last_hidden_state).sample
            loss = F.mse_loss(predicted.float(), target)
            run.update(loss, constant_then_down(run.step, steps, RATE))
        log.add(run.step, loss.item())
        if run.step % 500 == 0:
            run.save()
        if run.step % 1000 == 0:
            export(out, vae, run, tokenizer)
    run.save()
    export(out, vae, run, tokenizer)


def grow(
    unet: UNet2DConditionModel, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, vae: AutoencoderKL, folder: Path
) -> None:
    """A saved run continues from its own state instead, since that is loaded afterwards."""
    old = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32).to(vae.device)
    pictures = [pixels for pixels, _ in draw_pictures(384, f"{SEED}:rotation")]
    pixels = to_unit(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)).to(vae.device)
    rotation = find_rotation(old, vae, pixels).to(vae.device)
    grow_unet(unet, folder, rotation)
    grow_text_encoder(text_encoder, tokenizer, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/tiny/pipeline"))
    parser.add_argument("--build", type=Path, default=Path("build/tiny"))
    parser.add_argument(
        "--steps", type=int, default=STEPS, help="of the third stage, the last fifth with a falling rate"
    )
    parser.add_argument("--grow-from", type=Path, help="an earlier base with one layer a block, to start from")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    args = parser.parse_args()
    args.build.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    vae = train_autoencoder(args.build, args.device)
    train_decoder(args.build, vae)
    train_unet(args.build, args.out, vae, args.steps, args.grow_from)


if __name__ == "__main__":
    main()
