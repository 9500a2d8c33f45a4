"""This machine's training devices and their speed: for `atelier doctor`.

    python -m worker.engine.machine UNET_FOLDER > answer.json

UNET_FOLDER is the U-Net of a base in diffusers' layout; the answer is a MachineReport. It runs as a program because its
caller has no torch.
"""

import statistics
import sys
import time
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from pydantic import BaseModel, ConfigDict

from worker.answers import take_stdout
from worker.engine.device import choose_precision, name_device, total_memory_bytes

BATCH = 4
NUM_TOKENS = 77
NUM_TIMED_STEPS = 5


class DeviceReport(BaseModel):
    """``precision`` is that of `precision: auto`; ``seconds_per_image`` a forward and backward pass of the U-Net."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    name: str
    memory_bytes: int
    precision: str
    seconds_per_image: float


class MachineReport(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    torch_version: str
    cpu_threads: int
    devices: tuple[DeviceReport, ...]


def examine(unet_folder: Path) -> MachineReport:
    """All of its GPUs, or else the CPU."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]
    return MachineReport(
        torch_version=torch.__version__,
        cpu_threads=torch.get_num_threads(),
        devices=tuple(_examine_device(torch.device(name), unet_folder) for name in names),
    )


def _examine_device(device: torch.device, unet_folder: Path) -> DeviceReport:
    precision = choose_precision(device)
    return DeviceReport(
        device=str(device),
        name=name_device(device),
        memory_bytes=total_memory_bytes(device),
        precision=precision,
        seconds_per_image=time_step(device, precision, unet_folder) / BATCH,
    )


def time_step(device: torch.device, precision: str, unet_folder: Path) -> float:
    """The median of some forward and backward passes over a batch of noise, in seconds; the first, which includes the
    setup, is not counted."""
    unet = UNet2DConditionModel.from_pretrained(unet_folder, dtype=torch.float32, use_safetensors=True)
    unet.to(device).train()
    side = unet.config["sample_size"]
    latents_BCHW = torch.randn(BATCH, unet.config["in_channels"], side, side, device=device)
    text_BLD = torch.randn(BATCH, NUM_TOKENS, unet.config["cross_attention_dim"], device=device)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
    seconds = []
    for _ in range(NUM_TIMED_STEPS + 1):
        started = time.perf_counter()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = unet(latents_BCHW, 500, text_BLD).sample.float().square().mean()
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def main() -> None:
    with take_stdout() as answers:
        answers.write(examine(Path(sys.argv[1])).model_dump_json().encode())


if __name__ == "__main__":
    main()
