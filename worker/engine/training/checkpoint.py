"""The complete state of a run, from which it continues as if it had never stopped.

| part            | why                                                                     |
|-----------------|-------------------------------------------------------------------------|
| step            | batch order, captions, dropout and all noise are functions of (seed, step) |
| adapter.*       | the trained parameters, fp32                                             |
| optimizer.*     | the optimizer's tensors per parameter; its plain numbers in the metadata  |
| groups          | the optimizer's state per group (Prodigy's estimate of the rate)          |
| schedule        | the position in the learning-rate schedule                               |
| scaler          | fp16's loss scale and growth count                                       |
| average.*       | the moving average of the parameters, where the plan has one             |
| best.*, lowest, curve | the held-out losses, and the weights that would be promoted           |
| loss            | the smoothed loss for display                                            |

Safetensors only: tensors as such, the rest as JSON in the metadata.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from core.domain.plan import TrainPlan
from worker.engine.adapter_files.formats import write_safetensors
from worker.engine.errors import BadInput
from worker.engine.training.state import HELD_OUT_MEASURE, Best, State, Tensors

PLAIN = (bool, int, float, str, type(None))


def plan_hash(plan: TrainPlan) -> str:
    """Without default values: a field that a later version adds does not invalidate a checkpoint's plan."""
    return hashlib.sha256(plan.model_dump_json(exclude_defaults=True).encode()).hexdigest()


def save_checkpoint(state: State, plan: TrainPlan, path: Path) -> None:
    tensors = {f"adapter.{name}": param.detach() for name, param in state.params.items()}
    moments, numbers = _read_moments(state)
    tensors |= moments
    tensors |= {f"average.{name}": tensor for name, tensor in (state.average or {}).items()}
    tensors |= {f"best.{name}": tensor for name, tensor in (state.best.weights if state.best else {}).items()}
    facts = {
        "plan": plan_hash(plan),
        "step": state.step,
        "loss": state.loss,
        "measure": HELD_OUT_MEASURE,
        "curve": state.validation_curve,
        "lowest": state.best_losses,
        "best": [state.best.step, state.best.loss] if state.best else None,
        "numbers": numbers,
        "groups": [_plain(group) for group in state.optimizer.param_groups],
        "schedule": state.schedule.state_dict(),
        "scaler": state.accelerator.scaler.state_dict() if state.accelerator.scaler else None,
    }
    write_safetensors(
        path, {key: value.cpu() for key, value in tensors.items()}, {"atelier": json.dumps(facts, default=list)}
    )


def _read_moments(state: State) -> tuple[Tensors, dict[str, dict[str, Any]]]:
    """The optimizer's tensors, and its state that consists of plain numbers."""
    tensors: Tensors = {}
    numbers: dict[str, dict[str, Any]] = {}
    for name, param in state.params.items():
        for key, value in state.optimizer.state[param].items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{name}.{key}"] = value.detach()
            else:
                assert isinstance(value, PLAIN), (key, type(value))
                numbers.setdefault(name, {})[key] = value
    return tensors, numbers


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in group.items() if key != "params"}
    for key, value in kept.items():
        assert isinstance(value, (*PLAIN, tuple, list)), (key, type(value))
    return kept


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
    state.put({name: tensors[f"adapter.{name}"] for name in state.params})
    for name, param in state.params.items():
        moments = _under(f"optimizer.{name}.", tensors)
        state.optimizer.state[param] = facts["numbers"].get(name, {}) | {
            key: value if value.ndim == 0 else value.to(param.device) for key, value in moments.items()
        }
    for group, saved in zip(state.optimizer.param_groups, facts["groups"], strict=True):
        group.update({key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()})
    state.schedule.load_state_dict(facts["schedule"])
    if state.accelerator.scaler and facts["scaler"]:
        state.accelerator.scaler.load_state_dict(facts["scaler"])
    state.average = _moved(state, _under("average.", tensors)) or None
    if facts.get("measure") == HELD_OUT_MEASURE:
        state.best_losses = facts["lowest"]
        state.validation_curve = [(step, loss) for step, loss in facts["curve"]]
        if facts["best"]:
            step, loss = facts["best"]
            state.best = Best(step, loss, _moved(state, _under("best.", tensors)))
    state.step, state.loss = facts["step"], facts["loss"]


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _moved(state: State, tensors: Tensors) -> Tensors:
    return {name: tensor.to(state.params[name].device) for name, tensor in tensors.items()}
