"""The bare U-Net with peft's adapter and ideal inputs: what no trainer is below, if it calls the same network.

    python -m bench.speed.bare BASE_FOLDER --resolution 256 --steps 8 --rank 4 --precision bf16 --threads 2

The latents, the text's states and the noise are made beforehand; AdamW as torch has it. Writes the seconds of each step
as JSON, without the first two.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig

WARMUP = 2
NUM_TOKENS = 77
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def time_bare(base: Path, resolution: int, steps: int, rank: int, precision: str) -> list[float]:
    dtype = DTYPES[precision]
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_pretrained(base / "unet", dtype=dtype, use_safetensors=True)
    unet.requires_grad_(False).train()
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS, init_lora_weights="gaussian"))
    params = [param for param in unet.parameters() if param.requires_grad]
    for param in params:
        param.data = param.data.float()
    optimizer = torch.optim.AdamW(params, lr=1e-4)
    side, channels = resolution // 8, unet.config["in_channels"]
    noisy, noise = (torch.randn(1, channels, side, side, dtype=dtype) for _ in range(2))
    states = torch.randn(1, NUM_TOKENS, unet.config["cross_attention_dim"], dtype=dtype)
    seconds = []
    for _ in range(WARMUP + steps):
        started = time.perf_counter()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            predicted = unet(noisy, 500, states).sample
        (predicted.float() - noise.float()).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    return seconds[WARMUP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    for name in ("resolution", "steps", "rank", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--precision", choices=sorted(DTYPES), required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(json.dumps(time_bare(args.base, args.resolution, args.steps, args.rank, args.precision)))


if __name__ == "__main__":
    main()
