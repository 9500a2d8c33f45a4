"""The optimizer and its schedule."""

from collections.abc import Iterable
from typing import Any

import torch
from diffusers.optimization import get_scheduler

from core.domain.plan import TrainPlan


def open_optimizer(plan: TrainPlan, params: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Not fused and not foreach: one fixed order of operations on every device."""
    return torch.optim.AdamW(
        params, lr=plan.learning_rate, betas=plan.betas, weight_decay=plan.weight_decay, foreach=False, fused=False
    )


def open_schedule(plan: TrainPlan, optimizer: torch.optim.Optimizer) -> Any:
    """diffusers' schedules, counted in optimizer steps."""
    name = "constant_with_warmup" if plan.schedule == "constant" else plan.schedule
    return get_scheduler(name, optimizer, num_warmup_steps=plan.warmup_steps, num_training_steps=plan.steps)
