"""Attaches a LoRA to frozen networks by peft, reads it out, and removes it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.utils.peft_utils import recurse_remove_peft_layers
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer

from core.domain.plan import TrainPlan
from worker.engine.adapter_files.formats import LoraModule
from worker.engine.cpu_convolution import AdapterConvolution
from worker.engine.draws import generator
from worker.engine.errors import BaseChanged
from worker.engine.families.long_texts import limits_of
from worker.engine.families.protocol import Base, Network, TextEncoders

ADAPTER = "atelier"

Parameters = dict[str, torch.nn.Parameter]


@contextmanager
def unchanged(base: Base) -> Iterator[None]:
    """Raises BaseChanged at the end if the denoiser's weights have changed."""
    before = sum_weights(base.denoiser)
    yield
    if sum_weights(base.denoiser) != before:
        raise BaseChanged("The base's weights changed during training")


def sum_weights(network: Network) -> dict[str, list[int]]:
    """The sum and the exclusive or of each tensor's 64-bit words, computed where the tensor is: against our own
    mistakes, for which SHA-256 would have to read a gigabyte through the CPU."""
    state = network.module.state_dict()
    sums = [
        torch.stack([words.sum(), torch.hash_tensor(words).view(torch.int64)]) for words in map(_words, state.values())
    ]
    return dict(zip(state, torch.stack(sums).tolist(), strict=True))


def _words(tensor: torch.Tensor) -> torch.Tensor:
    """(N,) int64, the last one filled up with zeros."""
    octets = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    missing = -len(octets) % 8
    return (F.pad(octets, (0, missing)) if missing else octets).view(torch.int64)


@dataclass(frozen=True)
class Attached:
    """Adapters on a base. ``encoders`` are open while they are trained; ``groups`` are parameters with their rate."""

    networks: list[Network]
    encoders: TextEncoders | None
    params: Parameters
    groups: list[tuple[list[torch.nn.Parameter], float]]


def attach_all(base: Base, plan: TrainPlan) -> Attached:
    """On the denoiser, and on the text encoders if the plan trains them."""
    params = attach(base.denoiser, plan, plan.rank)
    groups = [(list(params.values()), plan.learning_rate)]
    if plan.text_encoder_rank is None or plan.text_encoder_learning_rate is None:
        return Attached([base.denoiser], None, params, groups)
    encoders, text_params = base.open_text_encoders(limits_of(plan)), Parameters()
    for network in encoders.networks:
        text_params |= attach(network, plan, plan.text_encoder_rank)
    groups.append((list(text_params.values()), plan.text_encoder_learning_rate))
    return Attached([base.denoiser, *encoders.networks], encoders, params | text_params, groups)


def attach(network: Network, plan: TrainPlan, rank: int) -> Parameters:
    """Adds the adapter's trainable parameters in fp32 and returns them by name, in a fixed order.

    ``down`` is drawn as in the paper's code (Kaiming-uniform with a = sqrt(5)) from a generator keyed by the layer's
    name; ``up`` is zero, so the first prediction is the base's.
    """
    inject(
        network,
        plan.adapter_type,
        plan.targets,
        rank=rank,
        alpha=scale_alpha(plan, rank),
        dropout=plan.adapter_dropout,
    )
    prefix = network.diffusers_prefix
    params = {f"{prefix}.{name}": p for name, p in network.module.named_parameters() if f".{ADAPTER}" in name}
    for name, layer in network.module.named_modules():
        if isinstance(layer, torch.nn.Conv2d) and f".{ADAPTER}" in name and layer.weight.device.type == "cpu":
            AdapterConvolution.use(layer)
        if isinstance(layer, LoraLayer):
            # autocast casts the input, or all is fp32: peft's own cast to fp32 and autocast's back changes no bit
            layer.cast_input_dtype_enabled = False
    for name, param in params.items():
        param.data = param.data.float()
        if ".lora_A." in name:
            _draw_down(param, generator(plan.seed, 0, f"init:{name}"))
        param.requires_grad_(True)
    return params


def inject(
    network: Network, adapter_type: str, targets: str, *, rank: int, alpha: float = 1.0, dropout: float = 0.0
) -> None:
    """peft's layers around those that the adapter changes."""
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # annotated as int; any float works
        lora_dropout=dropout,
        use_dora=adapter_type == "dora",
        target_modules=network.list_targets(adapter_type, targets),
        init_lora_weights=True,
    )
    inject_adapter_in_model(config, network.module, adapter_name=ADAPTER)


def _draw_down(param: torch.nn.Parameter, rng: torch.Generator) -> None:
    torch.nn.init.kaiming_uniform_(fresh := torch.empty(param.shape), a=5**0.5, generator=rng)
    param.data.copy_(fresh)


def scale_alpha(plan: TrainPlan, rank: int) -> float:
    """The alpha for which ``alpha / rank`` is the intended scale in every tool. rsLoRA (arXiv 2312.03732) needs
    ``alpha / sqrt(rank)``, which no file format can express otherwise. A text encoder with a rank of its own keeps the
    plan's ratio."""
    alpha = plan.alpha * rank / plan.rank
    return alpha * rank**0.5 if plan.rslora else alpha


def detach(network: Network) -> None:
    """Restores the network as it was loaded, so that the next job finds the base warm and clean."""
    if any(isinstance(module, LoraLayer) for module in network.module.modules()):
        recurse_remove_peft_layers(network.module)
        del network.module.peft_config
    network.module.requires_grad_(False).eval()


@contextmanager
def adapters_disabled(networks: Sequence[Network]) -> Iterator[None]:
    """Within it the networks predict as if they had no adapter."""
    _enable(networks, False)
    try:
        yield
    finally:
        _enable(networks, True)


def _enable(networks: Sequence[Network], on: bool) -> None:
    for _, layer in _layers(networks):
        # not peft's enable_adapters: it also switches requires_grad
        layer._disable_adapters = not on


def _layers(networks: Sequence[Network]) -> Iterator[tuple[tuple[Network, str], Any]]:
    for network in networks:
        for name, module in network.module.named_modules():
            if isinstance(module, LoraLayer) and ADAPTER in module.lora_A:
                yield (network, name), module


def count_parameters(params: Mapping[str, torch.nn.Parameter]) -> int:
    return sum(param.numel() for param in params.values())


def read_modules(networks: Sequence[Network]) -> list[LoraModule]:
    """The current adapter, per layer, in fp16 on the CPU."""
    return [_read_module(network, name, layer) for (network, name), layer in _layers(networks)]


def _read_module(network: Network, name: str, layer: Any) -> LoraModule:
    magnitude = layer.lora_magnitude_vector[ADAPTER].weight if ADAPTER in layer.lora_magnitude_vector else None
    return LoraModule(
        network=network,
        path=name,
        down=_half(layer.lora_A[ADAPTER].weight),
        up=_half(layer.lora_B[ADAPTER].weight),
        alpha=float(layer.lora_alpha[ADAPTER]),
        magnitude=None if magnitude is None else _half(magnitude),
    )


def _half(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach().to("cpu", torch.float16).contiguous()
