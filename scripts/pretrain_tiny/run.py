"""A stage's state, saved together and restored after a kill."""

import math
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WARMUP_STEPS = 200


def constant_then_down(step: int, steps: int, rate: float, cool: float = 0.2) -> float:
    """Constant, and falling by 1 - sqrt to zero in the last part of the steps (arXiv 2405.18392): a run can be extended
    without losing the schedule's progress."""
    warm, start = min(1.0, (step + 1) / WARMUP_STEPS), steps * (1 - cool)
    return rate * warm * (1.0 if step < start else 1 - math.sqrt((step - start) / (steps - start)))


class Run:
    """Modules, their AdamW and EMA, saved together as one safetensors file under the build folder."""

    def __init__(self, file: Path, modules: dict[str, torch.nn.Module], ema_decay: float) -> None:
        self.file, self.modules, self.ema_decay, self.step = file, modules, ema_decay, 0
        self.params = {f"{n}.{k}": p for n, m in modules.items() for k, p in m.named_parameters()}
        self.ema = {k: p.detach().clone() for k, p in self.params.items()}
        self.optimizer = torch.optim.AdamW(self.params.values(), weight_decay=1e-2, betas=(0.9, 0.99), fused=True)
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
                    "exp_avg": saved[f"m.{key}"].to(param.device),
                    "exp_avg_sq": saved[f"v.{key}"].to(param.device),
                }

    def save(self) -> None:
        tensors = {"step": torch.tensor(self.step)}
        for key, param in self.params.items():
            state = self.optimizer.state[param]
            tensors |= {
                f"param.{key}": param.detach(),
                f"ema.{key}": self.ema[key],
                f"m.{key}": state["exp_avg"],
                f"v.{key}": state["exp_avg_sq"],
            }
        partial = self.file.with_suffix(".part")
        save_file(
            {key: value.cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}, partial
        )
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


class Log:
    """A line each hundred steps: a running mean of the loss, the pace, and the time left."""

    def __init__(self, stage: str, first: int, steps: int) -> None:
        self._stage, self._first, self._steps, self._started, self._mean = stage, first, steps, time.time(), 0.0

    def add(self, step: int, loss: float) -> None:
        self._mean = loss if self._mean == 0 else 0.98 * self._mean + 0.02 * loss
        if step % 100 == 0:
            pace = (time.time() - self._started) / max(1, step - self._first)
            left = pace * (self._steps - step) / 60
            print(
                f"{self._stage} {step}/{self._steps} loss {self._mean:.4f} {pace:.3f} s/step, {left:.0f} min left",
                flush=True,
            )
