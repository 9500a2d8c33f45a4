"""Full fine-tuning, by a plain loop over the engine's parts: every weight of the denoiser, in fp32."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file

from bench.steps import time_on
from core.domain.plan import TrainPlan
from worker.engine.device import Runtime, open_accelerator, set_checkpointing
from worker.engine.draws import seed_torch
from worker.engine.families.protocol import Base
from worker.engine.observer import RecordingObserver
from worker.engine.training.caching import fill_cache, start_caching
from worker.engine.training.data import BatchOrder, pick_batch, with_size_conditioning
from worker.engine.training.objective import NoisedBatch, compute_loss
from worker.engine.training.optim import open_optimizer, open_schedule


@dataclass(frozen=True)
class FullResult:
    """``file``: the denoiser's weights in fp16, as such trainings are passed on."""

    file: Path
    num_parameters: int
    losses: list[float]
    step_seconds: list[float]


def train_full(plan: TrainPlan, runtime: Runtime, base: Base, files: Mapping[str, Path], workdir: Path) -> FullResult:
    """With the plan's images, steps, batch, optimizer and objective, without prior preservation and without gradient
    accumulation; the same draws as for an adapter. The base is changed: load it anew for anything else."""
    assert not plan.prior_num_images and plan.gradient_accumulation == 1
    accelerator = open_accelerator(runtime)
    device, denoiser = accelerator.device, base.denoiser.module
    progress = start_caching(plan, RecordingObserver())
    cache = fill_cache(base, plan, runtime, files, workdir / "cache", workdir / "conditioning", progress)
    denoiser.float().requires_grad_(True).train()
    set_checkpointing(denoiser, on=runtime.gradient_checkpointing)
    params = list(denoiser.parameters())
    optimizer = accelerator.prepare_optimizer(open_optimizer(plan, [(params, plan.learning_rate)], device))
    schedule, order = open_schedule(plan, optimizer.optimizer), BatchOrder(plan)
    losses: list[float] = []

    def step() -> None:
        number = len(losses)
        seed_torch(plan.seed, number)
        examples, texts = pick_batch(cache, plan, order, number)
        batch = NoisedBatch(plan, base, number, examples)
        with runtime.autocast():
            conditioning = with_size_conditioning([cache.conditioning[text] for text in texts], examples)
            loss = compute_loss(base, plan, batch, conditioning, device)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(params, plan.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(loss.item())

    seconds = [time_on(device, step) for _ in range(plan.steps)]
    workdir.mkdir(parents=True, exist_ok=True)
    file = workdir / "unet.safetensors"
    save_file({name: weight.half().contiguous().cpu() for name, weight in denoiser.state_dict().items()}, file)
    return FullResult(file, sum(param.numel() for param in params), losses, seconds)
