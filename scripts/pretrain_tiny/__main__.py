"""Pretrains ``tiny``, the bundled base: a Stable Diffusion 1.x in diffusers' layout at 64x64 pixels.

    python -m scripts.pretrain_tiny --out models/tiny --build build/tiny

Two stages, each seeded and resumable (a killed run goes on from its last checkpoint):

1. ``vae``: a 4-times-down autoencoder over many glyphs, L1 + image-gradient + KL loss.
2. ``unet``: the U-Net and the CLIP text encoder together over 100 glyphs x 8 backgrounds, v-prediction
   on a schedule with zero terminal SNR (arXiv 2305.08891, sections 3.1 and 3.2): with SD's own schedule
   a 64x64 picture keeps so much signal at the last timestep that flat backgrounds come out in the
   wrong hue. A made-up word stands in place of every fourth glyph's name, so that a word which means nothing
   yet leaves the size and the background as the caption says. Without it, captions with an unknown word were
   misread as a whole, and adapters for new words lost their backgrounds.

The held-out glyphs of ``scripts.glyphs`` are in neither stage. Random draws come from generators seeded
by (seed, stage, step), so a resumed run sees what an undisturbed one would have seen.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tokenizers import trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from scripts.glyphs import (
    BACKGROUNDS,
    BASE,
    HELD_OUT,
    SIZE,
    FontMissing,
    compose,
    draw_pose,
    make_up_word,
    sprite,
    vary_caption,
)

SEED = 20260

VAE_STEPS, VAE_RATE, VAE_CROPS, VAE_WHOLE = 8_000, 2e-3, 24, 8
KL_WEIGHT, GRADIENT_WEIGHT = 1e-5, 1.0
UNET_STEPS, UNET_RATE, UNET_BATCH, EMA_DECAY = 17_000, 1.2e-3, 32, 0.999
WARMUP_STEPS, EMPTY_CAPTIONS, MADE_UP_WORDS, POSES = 200, 0.10, 0.25, 16

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "clip_sample": False,
    "steps_offset": 1,
}


# --- what the models look like -------------------------------------------------------------------------


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(24, 64, 96),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        sample_size=SIZE,
    )


def build_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIZE // 4,
        block_out_channels=(64, 128, 160),
        layers_per_block=1,
        cross_attention_dim=96,
        attention_head_dim=4,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=384,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=77,
            projection_dim=96,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """A byte-level BPE in CLIP's layout, its merges learned from the captions and some common words. Made once: the
    trainer breaks ties between merges in another order each time, and the embeddings go by its numbers."""
    if not (folder / "merges.txt").exists():
        _learn_merges(folder)
    return CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=77)


def _learn_merges(folder: Path) -> None:
    words = "photo picture drawing of the in with and an at style person man woman child toy character sks".split()  # noqa: SIM905
    lines = [f"a {name} on a {color} background large small" for name in BASE for color in BACKGROUNDS] + words * 4
    tokenizer = CLIPTokenizer()
    alphabet = sorted(_byte_alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=1200, min_frequency=2, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    core = tokenizer.backend_tokenizer
    core.train_from_iterator(lines, trainer)
    merges = [tuple(pair) for pair in json.loads(core.to_str())["model"]["merges"]]
    tokens = alphabet + [char + "</w>" for char in alphabet] + ["".join(pair) for pair in merges]
    tokens = [*list(dict.fromkeys(tokens)), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))


def _byte_alphabet() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel.alphabet()


# --- what they see -------------------------------------------------------------------------------------


def wide_sprites() -> list[str]:
    """All glyphs of the pictograph blocks that the font draws, without the held-out ones."""
    codes = [*range(0x1F300, 0x1F580), *range(0x1F600, 0x1F650), *range(0x1F680, 0x1F6F0), *range(0x1F900, 0x1FA00)]
    found = []
    for char in map(chr, codes):
        if char in HELD_OUT.values():
            continue
        try:
            sprite(char)
        except FontMissing:
            continue
        found.append(char)
    return found


def draw_vae_pool(count: int) -> torch.Tensor:
    """uint8, (count, 3, 64, 64): every second picture one of the base's glyphs, colours free."""
    rng = random.Random(f"{SEED}:vae-pool")
    wide, base = wide_sprites(), list(BASE.values())
    pool = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for index in range(count):
        char = rng.choice(base if index % 2 else wide)
        color = rng.choice(list(BACKGROUNDS.values()))
        if rng.random() < 0.25:
            color = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        pool[index] = np.asarray(compose(sprite(char), color, draw_pose(rng, rng.choice(("large", "small")))))
    return torch.from_numpy(pool).permute(0, 3, 1, 2).contiguous()


def to_unit(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 -> float -1..1."""
    return pixels.float() / 127.5 - 1.0


class Captions:
    """Token ids of every caption variant of every (glyph, size, background), drawn by a seeded generator."""

    def __init__(self, tokenizer: CLIPTokenizer, items: list[tuple[str, str, str]]) -> None:
        self._items = items
        self._tokenizer = tokenizer
        self._ids: dict[str, torch.Tensor] = {}

    def _encode(self, text: str) -> torch.Tensor:
        if text not in self._ids:
            row = self._tokenizer(text, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
            self._ids[text] = row.input_ids[0]
        return self._ids[text]

    def draw(self, indices: list[int], rng: random.Random) -> torch.Tensor:
        """(len(indices), 77) token ids; a tenth of the captions is empty (classifier-free guidance)."""
        return torch.stack([self._encode(self._write(index, rng)) for index in indices])

    def _write(self, index: int, rng: random.Random) -> str:
        name, size_word, background = self._items[index]
        if rng.random() < EMPTY_CAPTIONS:
            return ""
        return vary_caption(rng, make_up_word(rng) if rng.random() < MADE_UP_WORDS else name, size_word, background)


@torch.no_grad()
def encode_base_set(vae: AutoencoderKL) -> tuple[torch.Tensor, list[tuple[str, str, str]]]:
    """Latents (N, 4, 16, 16), not yet scaled, of every glyph x background x size x pose, and their captions' words."""
    rng = random.Random(f"{SEED}:base-set")
    items, latents, batch = [], [], []
    for name, char in BASE.items():
        for background, color in BACKGROUNDS.items():
            for size_word in ("large", "small"):
                for _ in range(POSES):
                    batch.append(np.asarray(compose(sprite(char), color, draw_pose(rng, size_word))))
                    items.append((name, size_word, background))
        pixels = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)
        latents.append(vae.encode(to_unit(pixels)).latent_dist.mode())
        batch = []
    return torch.cat(latents), items


# --- how they learn ------------------------------------------------------------------------------------


def cosine_rate(step: int, steps: int, rate: float) -> float:
    warm = min(1.0, (step + 1) / WARMUP_STEPS)
    return rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))


class Run:
    """Modules, their AdamW and EMA, saved together as one safetensors file under the build folder."""

    def __init__(self, file: Path, modules: dict[str, torch.nn.Module], ema_decay: float) -> None:
        self.file, self.modules, self.ema_decay, self.step = file, modules, ema_decay, 0
        self.params = {f"{n}.{k}": p for n, m in modules.items() for k, p in m.named_parameters()}
        self.ema = {k: p.detach().clone() for k, p in self.params.items()}
        self.optimizer = torch.optim.AdamW(self.params.values(), weight_decay=1e-2)
        if file.exists():
            self._load()

    def _load(self) -> None:
        saved = load_file(self.file)
        self.step = int(saved["step"])
        with torch.no_grad():
            for key, param in self.params.items():
                param.copy_(saved[f"param.{key}"])
                self.ema[key].copy_(saved[f"ema.{key}"])
                self.optimizer.state[param] = {
                    "step": torch.tensor(float(self.step)),
                    "exp_avg": saved[f"m.{key}"],
                    "exp_avg_sq": saved[f"v.{key}"],
                }

    def save(self) -> None:
        tensors = {"step": torch.tensor(self.step)}
        for key, param in self.params.items():
            state = self.optimizer.state[param]
            tensors |= {
                f"param.{key}": param.detach().contiguous(),
                f"ema.{key}": self.ema[key].contiguous(),
                f"m.{key}": state["exp_avg"].contiguous(),
                f"v.{key}": state["exp_avg_sq"].contiguous(),
            }
        partial = self.file.with_suffix(".part")
        save_file({key: value.clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}, partial)
        partial.replace(self.file)

    def update(self, loss: torch.Tensor, rate: float) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.params.values()), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.step += 1
        decay = min(self.ema_decay, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.values()), [p.detach() for p in self.params.values()], 1 - decay)

    def use_ema(self) -> None:
        with torch.no_grad():
            for key, param in self.params.items():
                param.copy_(self.ema[key])


def log(stage: str, step: int, steps: int, loss: float, started: float, done: int) -> None:
    pace = (time.time() - started) / max(1, done)
    left = pace * (steps - step) / 60
    print(f"{stage} {step}/{steps} loss {loss:.4f} {pace:.3f} s/step, {left:.0f} min left", flush=True)


def image_gradient_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    dx = (a.diff(dim=-1) - b.diff(dim=-1)).abs().mean()
    return dx + (a.diff(dim=-2) - b.diff(dim=-2)).abs().mean()


def train_vae(build: Path) -> AutoencoderKL:
    torch.manual_seed(SEED)
    vae = build_vae().to(memory_format=torch.channels_last)
    run = Run(build / "vae.safetensors", {"vae": vae}, ema_decay=0.998)
    if run.step < VAE_STEPS:
        pool = draw_vae_pool(20_000)
        print(f"vae: pool of {len(pool)} pictures", flush=True)
        started, first, total = time.time(), run.step, 0.0
        while run.step < VAE_STEPS:
            rng = torch.Generator().manual_seed(SEED * 1_000_003 + run.step)
            whole = run.step % 4 == 3
            picks = torch.randint(len(pool), (VAE_WHOLE if whole else VAE_CROPS,), generator=rng)
            pixels = to_unit(pool[picks])
            if not whole:
                top, left = torch.randint(0, SIZE - 32 + 1, (2,), generator=rng).tolist()
                pixels = pixels[:, :, top : top + 32, left : left + 32]
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            posterior = vae.encode(pixels).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=rng)
            decoded = vae.decode(posterior.mean + posterior.std * noise).sample
            loss = F.l1_loss(decoded, pixels) + GRADIENT_WEIGHT * image_gradient_loss(decoded, pixels)
            loss = loss + KL_WEIGHT * posterior.kl().mean()
            run.update(loss, cosine_rate(run.step, VAE_STEPS, VAE_RATE))
            total = 0.98 * total + 0.02 * loss.item()
            if run.step % 100 == 0:
                log("vae", run.step, VAE_STEPS, total, started, run.step - first)
            if run.step % 1000 == 0:
                run.save()
        run.save()
    run.use_ema()
    return vae.eval()


def train_unet(build: Path, out: Path, vae: AutoencoderKL) -> None:
    tokenizer = build_tokenizer(build / "tokenizer")
    torch.manual_seed(SEED + 1)
    text_encoder = build_text_encoder(tokenizer)
    unet = build_unet().to(memory_format=torch.channels_last)
    cache = build / "latents.safetensors"
    latents, items = encode_base_set(vae) if not cache.exists() else (load_file(cache)["latents"], base_items())
    if not cache.exists():
        save_file({"latents": latents.contiguous()}, cache)
    scale = float(1.0 / latents.std())
    vae.register_to_config(scaling_factor=scale)
    latents = latents * scale
    print(f"unet: {len(latents)} latents, scaling factor {scale:.4f}, vocabulary {len(tokenizer)}", flush=True)
    captions, scheduler = Captions(tokenizer, items), DDPMScheduler(**SCHEDULE)
    run = Run(build / "unet.safetensors", {"unet": unet, "text_encoder": text_encoder}, EMA_DECAY)
    started, first, total = time.time(), run.step, 0.0
    while run.step < UNET_STEPS:
        rng = torch.Generator().manual_seed((SEED + 1) * 1_000_003 + run.step)
        picks = torch.randint(len(latents), (UNET_BATCH,), generator=rng)
        noise = torch.randn(UNET_BATCH, *latents.shape[1:], generator=rng)
        timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (UNET_BATCH,), generator=rng)
        clean = latents[picks]
        noisy = scheduler.add_noise(clean, noise, timesteps).contiguous(memory_format=torch.channels_last)
        target = scheduler.get_velocity(clean, noise, timesteps)
        tokens = captions.draw(picks.tolist(), random.Random(f"{SEED}:captions:{run.step}"))
        with torch.autocast("cpu", torch.bfloat16):
            states = text_encoder(tokens).last_hidden_state
            predicted = unet(noisy, timesteps, states).sample
        loss = F.mse_loss(predicted.float(), target)
        run.update(loss, cosine_rate(run.step, UNET_STEPS, UNET_RATE))
        total = 0.98 * total + 0.02 * loss.item()
        if run.step % 100 == 0:
            log("unet", run.step, UNET_STEPS, total, started, run.step - first)
        if run.step % 1000 == 0:
            run.save()
            export(out, vae, run, tokenizer)
    run.save()
    export(out, vae, run, tokenizer)


def base_items() -> list[tuple[str, str, str]]:
    return [(n, s, b) for n in BASE for b in BACKGROUNDS for s in ("large", "small") for _ in range(POSES)]


def export(out: Path, vae: AutoencoderKL, run: Run, tokenizer: CLIPTokenizer) -> None:
    """Writes the EMA weights as an fp16 pipeline folder: what ``models/tiny`` is."""
    unet, text_encoder = build_unet(), build_text_encoder(tokenizer)
    for name, module in (("unet", unet), ("text_encoder", text_encoder)):
        state = module.state_dict()
        state |= {key.removeprefix(f"{name}."): v for key, v in run.ema.items() if key.startswith(f"{name}.")}
        module.load_state_dict(state)
    twin = build_vae()
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("models/tiny"))
    parser.add_argument("--build", type=Path, default=Path("build/tiny"))
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.build.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    train_unet(args.build, args.out, train_vae(args.build))


if __name__ == "__main__":
    main()
