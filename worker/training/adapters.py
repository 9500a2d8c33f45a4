"""Puts a LoRA on a frozen denoiser by peft, reads it out, and takes it off again."""

from collections.abc import Mapping

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer

from core.domain.plan import TrainPlan
from worker.training.draws import generator
from worker.training.families.protocol import Base
from worker.training.formats import LoraModule

ADAPTER = "atelier"


def attach(base: Base, plan: TrainPlan) -> dict[str, torch.nn.Parameter]:
    """Adds the adapter's trainable parameters in fp32 and returns them by name, in a fixed order.

    ``down`` is drawn as in the paper's code (Kaiming-uniform with a = sqrt(5)) from a generator keyed by the
    layer's name; ``up`` is zero, so the first prediction is the base's.
    """
    config = LoraConfig(
        r=plan.rank,
        lora_alpha=plan.alpha,
        target_modules=base.list_targets(plan.adapter_type, plan.targets),
        init_lora_weights=True,
    )
    base.denoiser.add_adapter(config, adapter_name=ADAPTER)
    params = adapter_parameters(base)
    for name, param in params.items():
        param.data = param.data.float()
        if ".lora_A." in name:
            torch.nn.init.kaiming_uniform_(
                fresh := torch.empty(param.shape), a=5**0.5, generator=generator(plan.seed, 0, f"init:{name}")
            )
            param.data.copy_(fresh)
        param.requires_grad_(True)
    return params


def adapter_parameters(base: Base) -> dict[str, torch.nn.Parameter]:
    return {name: param for name, param in base.denoiser.named_parameters() if f".{ADAPTER}." in name}


def detach(base: Base) -> None:
    """Leaves the denoiser as it was loaded, so that the next job finds the base warm and clean."""
    if any(isinstance(module, LoraLayer) for module in base.denoiser.modules()):
        base.denoiser.unload_lora()
    base.denoiser.requires_grad_(False).eval()


def count_parameters(params: Mapping[str, torch.nn.Parameter]) -> int:
    return sum(param.numel() for param in params.values())


def read_modules(base: Base, plan: TrainPlan) -> list[LoraModule]:
    """The adapter as it stands, per layer, in fp16 on the CPU."""
    modules = []
    for name, module in base.denoiser.named_modules():
        if isinstance(module, LoraLayer) and ADAPTER in module.lora_A:
            down, up = module.lora_A[ADAPTER].weight, module.lora_B[ADAPTER].weight
            modules.append(LoraModule(name, _half(down), _half(up), plan.alpha))
    return modules


def _half(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach().to("cpu", torch.float16).contiguous()
