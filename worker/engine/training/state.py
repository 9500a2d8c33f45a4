"""The complete state that the next step depends on, and nothing else."""

import math
import statistics
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator

Tensors = dict[str, torch.Tensor]
HELD_OUT_MEASURE = "latents without noise, one loss a picture"
"""The unit of ``validation_curve`` and ``best_losses``: a checkpoint with another unit is not comparable."""
QUANTILES_OF_T = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)


@dataclass
class Best:
    """The weights that would be promoted now."""

    step: int
    loss: float
    weights: Tensors


@dataclass
class State:
    """``validation_curve`` holds (step, held-out loss); step 0 is the base's. ``best_losses`` has the losses of the
    evaluation with the lowest mean, image by image. ``average`` is the weights' moving average."""

    params: Mapping[str, torch.nn.Parameter]
    optimizer: Any
    schedule: Any
    accelerator: Accelerator
    step: int = 0
    loss: float = 0.0
    average: Tensors | None = None
    validation_curve: list[tuple[int, float]] = field(default_factory=list)
    best: Best | None = None
    best_losses: list[float] | None = None

    def weights(self) -> Tensors:
        """The weights that are sampled, evaluated and exported: the average if there is one."""
        if self.average is not None:
            return self.average
        return {name: param.detach() for name, param in self.params.items()}

    def update_average(self, decay: float) -> None:
        """With the usual warm-up, min(decay, (1 + n) / (10 + n)), as diffusers' EMAModel."""
        if self.average is None:
            self.average = {name: param.detach().clone() for name, param in self.params.items()}
            return
        weight = 1 - min(decay, (1 + self.step) / (10 + self.step))
        for name, param in self.params.items():
            self.average[name].lerp_(param.detach(), weight)

    @contextmanager
    def swapped_weights(self, weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Within it the networks use these weights."""
        own = {name: param.detach().clone() for name, param in self.params.items()}
        self.put(weights)
        try:
            yield
        finally:
            self.put(own)

    @torch.no_grad()
    def put(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, param in self.params.items():
            param.copy_(weights[name])

    def record_validation(self, step: int, losses: list[float]) -> None:
        """Records held-out losses, image by image: of these weights, or at step 0 the base's.

        The best is the latest whose loss is not significantly worse than the lowest. With few images the loss is flat
        and noisy long before the adapter draws well: its minimum is often one of the first evaluations. While it is not
        below the base's it says nothing, and there is no best.
        """
        loss = statistics.fmean(losses)
        self.validation_curve.append((step, loss))
        if step == 0:
            return
        if self.best_losses is None or loss < statistics.fmean(self.best_losses):
            self.best_losses = losses
        if loss < self.validation_curve[0][1] and not is_worse(losses, self.best_losses):
            self.best = Best(step, loss, {name: tensor.clone() for name, tensor in self.weights().items()})

    def promote(self) -> int:
        """Puts the best weights in place, for good, or the last if there is no best; returns their step."""
        if self.best is None:
            self.put(self.weights())
        else:
            self.put(self.best.weights)
            self.step = self.best.step
        self.average = None
        return self.step

    def evals_without_improvement(self, min_delta: float) -> int:
        """Evaluations since the loss last fell by ``min_delta``, relative to its previous value."""
        lowest, idle = float("inf"), 0
        for step, loss in self.validation_curve:
            if step and loss < lowest * (1 - min_delta):
                lowest, idle = loss, 0
            else:
                idle += bool(step)
        return idle


def is_worse(losses: list[float], lowest: list[float]) -> bool:
    """By a paired t-test over the images, one-sided at 5 %, of the losses' logarithms: an image that is hard to predict
    has a high loss, and proportionally large differences. One image alone is never significant."""
    differences = [_log(loss) - _log(low) for loss, low in zip(losses, lowest, strict=True)]
    if len(differences) < 2 or not any(differences):
        return False
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return statistics.fmean(differences) > quantile_of_t(len(differences) - 1) * error


def _log(loss: float) -> float:
    """An image that its mask hides completely has no loss."""
    return math.log(max(loss, sys.float_info.min))


def quantile_of_t(freedom: int) -> float:
    """Student's 95 % quantile: Abramowitz and Stegun, table 26.10, and expansion 26.7.5 where that is as good."""
    if freedom <= len(QUANTILES_OF_T):
        return QUANTILES_OF_T[freedom - 1]
    return 1.645 + 1.524 / freedom + 1.420 / freedom**2
