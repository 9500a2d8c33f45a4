"""The optimizers and their schedules, each from its best-known library."""

import importlib.util
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from diffusers.optimization import get_scheduler
from lion_pytorch import Lion
from prodigyopt import Prodigy
from transformers.optimization import Adafactor

from core.domain.plan import TrainPlan
from worker.engine.errors import BadInput

Groups = Sequence[tuple[Iterable[torch.nn.Parameter], float]]


def open_optimizer(plan: TrainPlan, groups: Groups, device: torch.device) -> torch.optim.Optimizer:
    """``groups``: parameters and their learning rate. Raises BadInput if the device does not support the optimizer."""
    rows = [{"params": list(params), "lr": rate} for params, rate in groups]
    optimizer: torch.optim.Optimizer
    rate, betas, decay = plan.learning_rate, plan.betas or (0.9, 0.999), plan.weight_decay
    if plan.optimizer == "adamw":  # not fused and not foreach: one fixed order of operations on every device
        return torch.optim.AdamW(rows, lr=rate, betas=betas, weight_decay=decay, foreach=False, fused=False)
    if plan.optimizer == "adamw8bit":
        return _open_8bit(rows, plan, device)
    if plan.optimizer == "adafactor":  # with a fixed learning rate, as sd-scripts' users set it
        optimizer = Adafactor(rows, lr=rate, weight_decay=decay, scale_parameter=False, relative_step=False)
    elif plan.optimizer == "prodigy":  # its authors' recommended settings for diffusion models
        bias = {"use_bias_correction": True, "safeguard_warmup": True}
        optimizer = Prodigy(rows, lr=rate, betas=betas, weight_decay=decay, **bias)
    else:
        optimizer = Lion(rows, lr=rate, betas=betas, weight_decay=decay)
    return optimizer


def refuse_unavailable(plan: TrainPlan, device: torch.device) -> None:
    """Before any computation. Raises BadInput if the worker does not support the optimizer."""
    if plan.optimizer != "adamw8bit":
        return
    if device.type != "cuda":
        raise BadInput(f"adamw8bit runs only on CUDA devices, and this worker has a {device.type}: use adamw")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadInput("adamw8bit needs bitsandbytes on the worker (the cuda extra installs it)")


def _open_8bit(rows: list[dict[str, Any]], plan: TrainPlan, device: torch.device) -> torch.optim.Optimizer:
    """bitsandbytes' AdamW (arXiv 2110.02861)."""
    refuse_unavailable(plan, device)
    from bitsandbytes.optim import AdamW8bit

    optimizer: torch.optim.Optimizer = AdamW8bit(
        rows, lr=plan.learning_rate, betas=plan.betas, weight_decay=plan.weight_decay
    )
    return optimizer


def open_schedule(plan: TrainPlan, optimizer: torch.optim.Optimizer) -> Any:
    """diffusers' schedules, counted in optimizer steps."""
    name = "constant_with_warmup" if plan.schedule == "constant" else plan.schedule
    steps = {"num_warmup_steps": plan.warmup_steps, "num_training_steps": plan.steps}
    return get_scheduler(name, optimizer, **steps, num_cycles=plan.num_cycles)


def effective_rate(optimizer: Any) -> float:
    """The first group's rate; Prodigy's times its current estimate."""
    group = optimizer.param_groups[0]
    return float(group["lr"] * group.get("d", 1.0))
