"""Training from an existing adapter: its update becomes the initial one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from core.domain.counts import counted
from core.domain.plan import TrainPlan
from worker.engine.adapter_files.proof.adapters import AdapterModule, read_adapter
from worker.engine.adapter_files.proof.layers import BaseLayers
from worker.engine.adapters import ADAPTER, scale_alpha
from worker.engine.errors import BadInput
from worker.engine.families.protocol import Network

MAX_NAMED = 3


@torch.no_grad()
def load_init_adapter(
    path: Path,
    layers: BaseLayers,
    networks: Sequence[Network],
    params: Mapping[str, torch.nn.Parameter],
    plan: TrainPlan,
) -> None:
    """Writes an adapter's update into newly attached parameters, exactly: a lower rank is filled up with new rows whose
    update is zero, another alpha is folded into ``up``.

    Raises BadInput for an adapter that does not fit the base, or needs a larger rank than the plan's.
    """
    places = _list_places(networks, params)
    modules = read_adapter(path, layers)
    unmatched = [module.layer for module in modules if (module.layer.part, module.layer.path) not in places]
    if unmatched:
        named = ", ".join(f"{layer.part}.{layer.path}" for layer in unmatched[:MAX_NAMED])
        raise BadInput(
            f"init_adapter changes {counted(len(unmatched), 'layer')} that this training does not ({named}): give the "
            "adapter.type, the targets and the text_encoder that it was trained with"
        )
    for module in modules:
        _write(module, places[module.layer.part, module.layer.path], params, plan)


def _list_places(networks: Sequence[Network], params: Mapping[str, torch.nn.Parameter]) -> dict[tuple[str, str], str]:
    """(part, path in files) -> the prefix of the names of the layer's parameters."""
    by_part = {network.diffusers_prefix: network for network in networks}
    stems = [name.removesuffix(f".lora_A.{ADAPTER}.weight") for name in params if ".lora_A." in name]
    split = [(stem, *stem.split(".", 1)) for stem in stems]
    return {(part, by_part[part].diffusers_path(layer)): stem for stem, part, layer in split}


def _write(module: AdapterModule, name: str, params: Mapping[str, torch.nn.Parameter], plan: TrainPlan) -> None:
    down, up = params[f"{name}.lora_A.{ADAPTER}.weight"], params[f"{name}.lora_B.{ADAPTER}.weight"]
    rank, room = module.down.shape[0], down.shape[0]
    if rank > room:
        raise BadInput(f"init_adapter has rank {rank}, and this training {room}: set adapter.rank to {rank} or more")
    scale = (module.alpha / rank) / (scale_alpha(plan, room) / room)
    down[:rank].copy_(module.down)
    up[:, :rank].copy_(module.up * scale)
    _write_magnitude(module, params.get(f"{name}.lora_magnitude_vector.{ADAPTER}.weight"))


def _write_magnitude(module: AdapterModule, magnitude: torch.nn.Parameter | None) -> None:
    if (magnitude is None) != (module.magnitude is None):
        wanted = "dora" if magnitude is None else "lora or locon"
        raise BadInput(f"init_adapter is of another type: set adapter.type to {wanted}")
    if magnitude is not None and module.magnitude is not None:
        magnitude.copy_(module.magnitude.reshape(magnitude.shape))
