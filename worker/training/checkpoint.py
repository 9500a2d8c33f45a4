"""What a run must remember to go on as if it had never stopped: the one list of it.

| part            | why                                                                |
|-----------------|--------------------------------------------------------------------|
| step            | batch order, captions and all noise are functions of (seed, step)   |
| adapter.*       | the trained parameters, fp32                                        |
| optimizer.*     | AdamW's moments and step counts                                     |
| schedule        | the position in the learning-rate schedule                          |
| scaler          | fp16's loss scale and growth count                                  |
| loss            | the smoothed loss that is shown                                     |

Safetensors only: tensors as such, the rest as JSON in the metadata.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open

from core.domain.plan import TrainPlan
from worker.training.errors import BadInput
from worker.training.formats import write_safetensors


@dataclass
class State:
    """The moving parts of a run."""

    params: Mapping[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    schedule: Any
    accelerator: Accelerator
    step: int = 0
    loss: float = 0.0


def plan_hash(plan: TrainPlan) -> str:
    return hashlib.sha256(plan.model_dump_json().encode()).hexdigest()


def save_checkpoint(state: State, plan: TrainPlan, path: Path) -> None:
    tensors = {f"adapter.{name}": param.detach().cpu() for name, param in state.params.items()}
    for name, param in state.params.items():
        for key, value in state.optimizer.state[param].items():
            tensors[f"optimizer.{name}.{key}"] = torch.as_tensor(value).detach().cpu()
    facts = {
        "plan": plan_hash(plan),
        "step": state.step,
        "loss": state.loss,
        "schedule": state.schedule.state_dict(),
        "scaler": state.accelerator.scaler.state_dict() if state.accelerator.scaler else None,
    }
    write_safetensors(path, tensors, {"atelier": json.dumps(facts, sort_keys=True, default=list)})


def load_checkpoint(state: State, plan: TrainPlan, path: Path) -> None:
    """Raises BadInput when the file is broken or belongs to another plan."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["atelier"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"The checkpoint {path.name} cannot be read ({error})") from error
    if facts["plan"] != plan_hash(plan):
        raise BadInput(f"The checkpoint {path.name} belongs to another plan")
    _restore(state, facts, tensors)


def _restore(state: State, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    for name, param in state.params.items():
        param.data.copy_(tensors[f"adapter.{name}"])
        prefix = f"optimizer.{name}."
        entries = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        state.optimizer.state[param] = {
            key: value if value.ndim == 0 else value.to(param.device) for key, value in entries.items()
        }
    state.schedule.load_state_dict(facts["schedule"])
    for group, rate in zip(state.optimizer.param_groups, state.schedule.get_last_lr(), strict=True):
        group["lr"] = rate
    if state.accelerator.scaler and facts["scaler"]:
        state.accelerator.scaler.load_state_dict(facts["scaler"])
    state.step, state.loss = facts["step"], facts["loss"]
