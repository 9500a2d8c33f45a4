"""Times a few training steps and one image on a base that nobody has trained on yet.

    python -m worker.engine.bases.calibration PARENT_PID < request.json > answer.json

It reads a CalibrationRequest, writes a CalibrationResult, and ends with its parent.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from core.domain.memory import PROCESS_BYTES, DeviceKind, choose_numerics
from core.domain.model import Calibration, Defaults, ModelInfo
from core.domain.registration import CalibrationRequest, CalibrationResult
from worker.answers import answer_order
from worker.engine.adapters import inject
from worker.engine.device import Runtime, available_memory_bytes, be_deterministic, generation_runtime
from worker.engine.draws import generator
from worker.engine.errors import BadInput
from worker.engine.families import load_base
from worker.engine.families.protocol import Base, Conditioning, SamplingParams, SizeConditioning

CPU_RESOLUTION = 256
"""Pixels. On a CPU a step at a base's own resolution takes long, and the time is scaled by the area anyway."""
RANK, TIMED_STEPS, DRAWING_STEPS = 16, 3, 2


def calibrate(model: ModelInfo, folder: Path, device: torch.device, cpu_threads: int) -> Calibration:
    """Raises BadInput if the memory that is free now is not enough."""
    runtime = generation_runtime(device, cpu_threads)
    resolution = model.resolution if device.type == "cuda" else min(model.resolution, CPU_RESOLUTION)
    _refuse_without_memory(model, device, runtime, resolution)
    be_deterministic(runtime)
    started = time.perf_counter()
    base = load_base(model.family, folder, device, runtime.dtype)
    with torch.no_grad():
        condition = _encode(base, resolution)
        next(base.encode_images(iter([torch.zeros(3, resolution, resolution)])))
    start_seconds = time.perf_counter() - started
    with runtime.autocast():
        seconds_per_image = _time_image(base, condition, resolution, model.defaults)
        seconds_per_sample = _time_sample(base, condition, resolution, device, model.defaults.batch_size)
    return Calibration(
        device=f"cpu x{runtime.cpu_threads}" if device.type == "cpu" else runtime.device_name,
        resolution=resolution,
        seconds_per_sample=round(seconds_per_sample, 5),
        start_seconds=round(start_seconds, 2),
        seconds_per_image=round(seconds_per_image, 4),
    )


def _refuse_without_memory(model: ModelInfo, device: torch.device, runtime: Runtime, resolution: int) -> None:
    assert model.memory is not None
    kind: DeviceKind = "cuda" if device.type == "cuda" else "cpu"
    passes = model.memory.passes[choose_numerics(kind, runtime.precision)]
    weights = model.num_parameters * (4 if runtime.precision == "fp32" else 2)
    needed = (
        PROCESS_BYTES[kind]
        + weights
        + passes.step.at(model.defaults.batch_size * (resolution / model.memory.resolution) ** 2)
    )
    available = available_memory_bytes(device)
    if needed > available:
        raise BadInput(f"it takes {needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are free")


def _encode(base: Base, resolution: int) -> Conditioning:
    encoders = base.open_text_encoders()
    (text,) = encoders.encode(["a photo"])
    sides = resolution, resolution
    size = base.encode_size_conditioning(SizeConditioning(sides, (0, 0), sides))
    return {**text, **size}


def _time_sample(base: Base, condition: Conditioning, resolution: int, device: torch.device, batch_size: int) -> float:
    """A sample's share of a training step, in seconds: the median of some steps, without the first, which includes the
    setup."""
    module = base.denoiser.module.train()
    inject(base.denoiser, "lora", "attention", rank=RANK)
    side, rng = resolution // base.latent_factor, generator(0, 0, "calibration")
    noisy = torch.randn(batch_size, module.config.in_channels, side, side, generator=rng).to(device)
    timesteps = base.noise_schedule.draw_timesteps(batch_size, rng, base.image_seq_len(side, side)).to(device)

    def step() -> None:
        base.predict(noisy, timesteps, [condition] * batch_size).float().square().mean().backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    step()
    return statistics.median(_time(step) for _ in range(TIMED_STEPS)) / batch_size


@torch.no_grad()
def _time_image(base: Base, condition: Conditioning, resolution: int, defaults: Defaults) -> float:
    """Seconds for an image of the default number of steps, of which only a few are drawn."""
    params = SamplingParams(DRAWING_STEPS, 2.0, 0.0, resolution, resolution)
    latents: list[torch.Tensor] = []

    def draw() -> None:
        latents[:] = [base.sample([condition], condition, [0], params)]

    draw()
    guided_step = _time(draw) / DRAWING_STEPS
    guided = defaults.sample_guidance_stop - defaults.sample_guidance_start
    steps = defaults.sample_num_steps * guided_step * (1 + guided) / 2
    return steps + _time(lambda: base.decode(latents[0]))


def _time(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def calibrate_or_refuse(order: CalibrationRequest) -> CalibrationResult:
    """Refusals are answers."""
    try:
        measured = calibrate(order.model, order.folder, torch.device(order.device), order.cpu_threads)
        return CalibrationResult(calibration=measured)
    except BadInput as error:
        return CalibrationResult(refusal=str(error))


def main() -> None:
    answer_order(CalibrationRequest.model_validate_json, calibrate_or_refuse)


if __name__ == "__main__":
    main()
