"""Adapter files: the key names of other tools, both metadata sets, and byte-stable safetensors.

Names follow sd-scripts (``networks/lora.py``) and diffusers with PEFT; diffusers' own converter to kohya is
not used, since it writes alpha = rank whatever it was. No time, id or attempt enters a file: the same
training gives the same bytes.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save

from core.domain.plan import TrainPlan
from worker.training.families.protocol import Base

Tensors = dict[str, torch.Tensor]

_BASE_VERSION = {"sd1": "sd_v1"}
_ARCHITECTURE = {"sd1": "stable-diffusion-v1/lora"}


@dataclass(frozen=True)
class LoraModule:
    """One adapted layer: down (rank, in, ...) and up (out, rank, ...); the update is alpha / rank * up @ down."""

    path: str
    down: torch.Tensor
    up: torch.Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])


def to_kohya(prefix: str, modules: Sequence[LoraModule]) -> Tensors:
    tensors: Tensors = {}
    for module in modules:
        name = f"{prefix}_{module.path.replace('.', '_')}"
        tensors[f"{name}.lora_down.weight"] = module.down
        tensors[f"{name}.lora_up.weight"] = module.up
        tensors[f"{name}.alpha"] = torch.tensor(module.alpha, dtype=module.down.dtype)
    return tensors


def to_diffusers(prefix: str, modules: Sequence[LoraModule]) -> Tensors:
    tensors: Tensors = {}
    for module in modules:
        tensors[f"{prefix}.{module.path}.lora_A.weight"] = module.down
        tensors[f"{prefix}.{module.path}.lora_B.weight"] = module.up
    return tensors


def describe_for_diffusers(prefix: str, modules: Sequence[LoraModule]) -> dict[str, str]:
    """The metadata without which diffusers would take alpha for rank (diffusers#6087)."""
    config = {
        f"{prefix}.r": modules[0].rank,
        f"{prefix}.lora_alpha": modules[0].alpha,
        f"{prefix}.target_modules": sorted(module.path for module in modules),
    }
    return {"format": "pt", "lora_adapter_metadata": json.dumps(config, sort_keys=True)}


def describe_for_kohya(plan: TrainPlan, tensors: Tensors, precision: str) -> dict[str, str]:
    """The ``ss_*`` keys of sd-scripts and the modelspec 1.0.1 keys; all values are strings."""
    sides = [(image.bucket.width, image.bucket.height) for image in plan.images]
    buckets = [{"resolution": list(side), "count": sides.count(side)} for side in sorted(set(sides))]
    metadata = {
        "ss_output_name": plan.name,
        "ss_base_model_version": _BASE_VERSION[plan.family],
        "ss_v2": "False",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(plan.rank),
        "ss_network_alpha": str(plan.alpha),
        "ss_network_args": _dump(_network_args(plan)),
        "ss_sd_model_name": plan.model,
        "ss_sd_model_hash": plan.model_sha256[:8],
        "ss_clip_skip": "None",
        "ss_resolution": f"({plan.resolution}, {plan.resolution})",
        "ss_num_train_images": str(len(plan.images)),
        "ss_num_epochs": str(-(-plan.steps * plan.batch_size // max(1, len(plan.images)))),
        "ss_steps": str(plan.steps),
        "ss_max_train_steps": str(plan.steps),
        "ss_batch_size_per_device": str(plan.batch_size),
        "ss_gradient_accumulation_steps": str(plan.gradient_accumulation),
        "ss_learning_rate": str(plan.learning_rate),
        "ss_unet_lr": str(plan.learning_rate),
        "ss_text_encoder_lr": "None",
        "ss_optimizer": "torch.optim.adamw.AdamW",
        "ss_lr_scheduler": plan.schedule,
        "ss_lr_warmup_steps": str(plan.warmup_steps),
        "ss_seed": str(plan.seed),
        "ss_mixed_precision": "no" if precision == "fp32" else precision,
        "ss_min_snr_gamma": str(plan.min_snr_gamma),
        "ss_noise_offset": str(plan.noise_offset),
        "ss_bucket_info": _dump({"buckets": {str(index): bucket for index, bucket in enumerate(buckets)}}),
        "ss_dataset_dirs": _dump({"dataset": {"n_repeats": 1, "img_count": len(plan.images)}}),
        "ss_tag_frequency": _dump({"dataset": _count_tags(plan)}),
    }
    body = save(tensors, {key: value for key, value in metadata.items() if key.startswith("ss_")})
    return metadata | {
        "sshs_model_hash": hashlib.sha256(tensor_bytes(body)).hexdigest(),
        "sshs_legacy_hash": hashlib.sha256(body[0x100000:0x110000]).hexdigest()[:8],
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": _ARCHITECTURE[plan.family],
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": plan.name,
        "modelspec.resolution": f"{plan.resolution}x{plan.resolution}",
        "modelspec.hash_sha256": f"0x{hashlib.sha256(tensor_bytes(body)).hexdigest()}",
        **({"modelspec.trigger_phrase": plan.trigger} if plan.trigger else {}),
    }


def _network_args(plan: TrainPlan) -> dict[str, str]:
    """What sd-scripts would have been told: convolutions are adapted when conv_dim stands here."""
    if plan.adapter_type == "locon":
        return {"conv_dim": str(plan.rank), "conv_alpha": str(plan.alpha)}
    return {}


def _count_tags(plan: TrainPlan) -> dict[str, int]:
    tags = [tag.strip() for image in plan.images for tag in image.caption.split(",") if tag.strip()]
    return {tag: tags.count(tag) for tag in sorted(set(tags))}


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def tensor_bytes(file: bytes) -> bytes:
    """What follows a safetensors file's header."""
    return file[8 + int.from_bytes(file[:8], "little") :]


def write_safetensors(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """The same tensors and metadata give the same bytes: safetensors 0.8 writes its metadata in random order
    (safetensors#584), so the header is written again with sorted keys. Whole or absent."""
    body = save({key: value.contiguous() for key, value in tensors.items()}, dict(metadata))
    length = int.from_bytes(body[:8], "little")
    header = json.dumps(json.loads(body[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        for part in (len(header).to_bytes(8, "little"), header, tensor_bytes(body)):
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def export(base: Base, plan: TrainPlan, modules: Sequence[LoraModule], precision: str, folder: Path) -> dict[str, Path]:
    """Writes both files; returns format -> path."""
    kohya = to_kohya(base.kohya_prefix, modules)
    diffusers = to_diffusers(base.diffusers_prefix, modules)
    files = {"kohya": folder / "adapter.safetensors", "diffusers": folder / "pytorch_lora_weights.safetensors"}
    described = describe_for_kohya(plan, kohya, precision)
    write_safetensors(files["kohya"], kohya, described)
    spec_keys = {key: value for key, value in described.items() if key.startswith("modelspec.")}
    write_safetensors(files["diffusers"], diffusers, spec_keys | describe_for_diffusers(base.diffusers_prefix, modules))
    return files
