"""Adapter files: the key names of other tools, both metadata sets, and byte-stable safetensors.

Names follow sd-scripts (``networks/lora.py``) and diffusers with PEFT; diffusers' own converter to kohya is not used,
since it always writes alpha = rank. No time, id or attempt enters a file: the same training gives the same bytes.
"""

import base64
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save

from core.domain.artifacts import AdapterFormat
from core.domain.model import PredictionType
from core.domain.plan import PlannedImage, TrainPlan
from worker.engine.families.protocol import Network
from worker.engine.families.registry import FAMILIES

Tensors = dict[str, torch.Tensor]

_PREDICTIONS: dict[PredictionType, str] = {"epsilon": "epsilon", "v_prediction": "v"}
MAX_THUMBNAIL = 256
MAX_TAG_BYTES, TAG_OVERHEAD_BYTES = 256 * 1024, 12  # of the table of tags; a count, a colon, quotes twice over

_OPTIMIZERS = {
    "adamw": "torch.optim.adamw.AdamW",
    "adamw8bit": "bitsandbytes.optim.adamw.AdamW8bit",
    "adafactor": "transformers.optimization.Adafactor(scale_parameter=False,relative_step=False)",
    "prodigy": "prodigyopt.prodigy.Prodigy(use_bias_correction=True,safeguard_warmup=True)",
    "lion": "lion_pytorch.lion_pytorch.Lion",
}


@dataclass(frozen=True)
class LoraModule:
    """One adapted layer: down (rank, in, ...) and up (out, rank, ...); the update is alpha / rank * up @ down.
    ``magnitude`` is DoRA's (arXiv 2402.09353), as peft shapes it: (out,) or (1, out, 1, 1)."""

    network: Network
    path: str
    down: torch.Tensor
    up: torch.Tensor
    alpha: float
    magnitude: torch.Tensor | None = None

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])


def to_kohya(modules: Sequence[LoraModule]) -> Tensors:
    tensors: Tensors = {}
    for module in modules:
        path = module.network.kohya_path(module.path).replace(".", "_")
        name = f"{module.network.kohya_prefix}_{path}"
        tensors[f"{name}.lora_down.weight"] = module.down
        tensors[f"{name}.lora_up.weight"] = module.up
        tensors[f"{name}.alpha"] = torch.tensor(module.alpha, dtype=torch.float32)
        if module.magnitude is not None:  # as LyCORIS shapes it: one value per output, broadcast over the rest
            tensors[f"{name}.dora_scale"] = module.magnitude.reshape(-1, *[1] * (module.down.ndim - 1))
    return tensors


def to_diffusers(modules: Sequence[LoraModule]) -> Tensors:
    """With alpha = rank: the scale is in the up halves, since diffusers before 0.35 reads no other from such a file. If
    half precision cannot hold the scaled numbers, all halves are float32, so that the update stays exact."""
    tensors: Tensors = {}
    for module in fold_scales(modules):
        name = f"{module.network.diffusers_prefix}.{module.network.diffusers_path(module.path)}"
        tensors[f"{name}.lora_A.weight"] = module.down
        tensors[f"{name}.lora_B.weight"] = module.up
        if module.magnitude is not None:  # without .weight, diffusers loses a text encoder's with transformers 5
            tensors[f"{name}.lora_magnitude_vector.weight"] = module.magnitude
    return tensors


def fold_scales(modules: Sequence[LoraModule]) -> list[LoraModule]:
    """The same updates with alpha = rank."""
    if all(module.alpha == module.rank for module in modules):
        return list(modules)
    scaled = [module.up.double() * (module.alpha / module.rank) for module in modules]
    exact = all(torch.equal(up.to(module.up.dtype).double(), up) for up, module in zip(scaled, modules, strict=True))
    return [
        replace(
            module,
            down=module.down if exact else module.down.float(),
            up=up.to(module.up.dtype if exact else torch.float32),
            alpha=float(module.rank),
        )
        for module, up in zip(modules, scaled, strict=True)
    ]


def describe_for_diffusers(modules: Sequence[LoraModule]) -> dict[str, str]:
    """peft's configuration for each network, as diffusers 0.35 and later read it. Layers with another rank than their
    network's first are named, as LyCORIS' convolutions may be; alpha is the rank everywhere (see ``to_diffusers``)."""
    config: dict[str, object] = {}
    for prefix in dict.fromkeys(module.network.diffusers_prefix for module in modules):
        rows = [module for module in modules if module.network.diffusers_prefix == prefix]
        # by their ends, for transformers 5 dropped CLIP's text_model level and diffusers renames the keys alone
        others = {_end_of(row.path): row.rank for row in rows if row.rank != rows[0].rank}
        config |= {
            f"{prefix}.r": rows[0].rank,
            f"{prefix}.lora_alpha": rows[0].rank,
            f"{prefix}.target_modules": sorted(_end_of(row.path) for row in rows),
            f"{prefix}.use_dora": rows[0].magnitude is not None,
            **({f"{prefix}.rank_pattern": others, f"{prefix}.alpha_pattern": others} if others else {}),
        }
    return {"format": "pt", "lora_adapter_metadata": json.dumps(config, sort_keys=True)}


def _end_of(path: str) -> str:
    return path.removeprefix("text_model.")


def describe_for_kohya(
    plan: TrainPlan, tensors: Tensors, precision: str, step: int, cover: Image.Image | None = None
) -> dict[str, str]:
    """The ``ss_*`` keys of sd-scripts and the modelspec 1.0.1 keys; all values are strings. ``step``: the step of these
    weights; ``cover``: the image that other tools' file managers show."""
    sides = [(image.bucket.width, image.bucket.height) for image in plan.training_images]
    buckets = [{"resolution": list(side), "count": sides.count(side)} for side in sorted(set(sides))]
    num_seen = sum(image.repeats for image in plan.training_images)
    family = FAMILIES[plan.family]
    names = family.metadata_of(plan.prediction_type)
    metadata = {
        "ss_output_name": plan.name,
        "ss_base_model_version": names.base_version,
        "ss_v2": str(family.ss_v2),
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(plan.rank),
        "ss_network_alpha": str(plan.alpha),
        "ss_network_args": _dump(_network_args(plan)),
        "ss_sd_model_name": plan.model,
        "ss_sd_model_hash": plan.model_sha256[:8],
        "ss_new_sd_model_hash": plan.model_file_sha256 or plan.model_sha256,
        "ss_clip_skip": "None",
        "ss_resolution": f"({plan.resolution}, {plan.resolution})",
        "ss_num_train_images": str(num_seen),
        "ss_num_reg_images": str(plan.prior_num_images),
        "ss_num_validation_images": str(len(plan.held_out_images)),
        "ss_num_epochs": str(-(-step * plan.batch_size // max(1, num_seen))),
        "ss_steps": str(step),
        "ss_max_train_steps": str(plan.steps),
        "ss_batch_size_per_device": str(plan.batch_size),
        "ss_gradient_accumulation_steps": str(plan.gradient_accumulation),
        "ss_learning_rate": str(plan.learning_rate),
        "ss_unet_lr": str(plan.learning_rate),
        "ss_text_encoder_lr": str(plan.text_encoder_learning_rate),
        "ss_optimizer": _OPTIMIZERS[plan.optimizer],
        "ss_lr_scheduler": plan.schedule,
        "ss_lr_warmup_steps": str(plan.warmup_steps),
        "ss_seed": str(plan.seed),
        "ss_mixed_precision": "no" if precision == "fp32" else precision,
        "ss_min_snr_gamma": str(plan.min_snr_gamma),
        "ss_noise_offset": str(plan.noise_offset),
        "ss_loss_type": plan.loss_type,
        "ss_caption_dropout_rate": str(plan.caption_dropout),
        "ss_bucket_info": _dump({"buckets": {str(index): bucket for index, bucket in enumerate(buckets)}}),
        "ss_dataset_dirs": _dump(_describe_folders(plan)),
        "ss_tag_frequency": _dump({"dataset": count_tags(plan.training_images)}),
    }
    body = save(tensors, {key: value for key, value in metadata.items() if key.startswith("ss_")})
    digest = hash_tensors(body)
    return metadata | {
        "sshs_model_hash": digest,
        "sshs_legacy_hash": hashlib.sha256(body[0x100000:0x110000]).hexdigest()[:8],
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": names.architecture,
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": plan.name,
        "modelspec.resolution": f"{plan.resolution}x{plan.resolution}",
        "modelspec.hash_sha256": f"0x{digest}",
        **({"modelspec.trigger_phrase": plan.trigger} if plan.trigger else {}),
        **({"modelspec.prediction_type": _PREDICTIONS[kind]} if (kind := plan.prediction_type) in _PREDICTIONS else {}),
        **({"modelspec.thumbnail": _to_data_url(cover)} if cover else {}),
    }


def _describe_folders(plan: TrainPlan) -> dict[str, dict[str, int]]:
    """By sd-scripts' name for a folder with as many repeats."""
    counts = Counter(image.repeats for image in plan.training_images)
    return {
        "dataset" if repeats == 1 else f"{repeats}_dataset": {"n_repeats": repeats, "img_count": counts[repeats]}
        for repeats in sorted(counts)
    }


def _to_data_url(image: Image.Image) -> str:
    """modelspec wants a JPEG of 256 pixels at most."""
    small, body = image.convert("RGB"), io.BytesIO()
    small.thumbnail((MAX_THUMBNAIL, MAX_THUMBNAIL))
    small.save(body, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(body.getvalue()).decode()


def _network_args(plan: TrainPlan) -> dict[str, str]:
    """sd-scripts' equivalent arguments: convolutions are adapted if conv_dim is among them."""
    args = {"conv_dim": str(plan.rank), "conv_alpha": str(plan.alpha)} if plan.adapter_type == "locon" else {}
    return args | ({"dora_wd": "True"} if plan.adapter_type == "dora" else {})


def count_tags(images: Iterable[PlannedImage]) -> dict[str, int]:
    """The most frequent ones, as many as fit: a caption without commas is one tag, and readers refuse headers that are
    too long."""
    counts = Counter(tag.strip() for image in images for tag in image.caption.split(",") if tag.strip())
    kept, room = {}, MAX_TAG_BYTES
    for tag, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        room -= len(json.dumps(tag)) + TAG_OVERHEAD_BYTES
        if room < 0:
            break
        kept[tag] = count
    return kept


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def tensor_bytes(file: bytes) -> bytes:
    """The part of a safetensors file after the header."""
    return file[8 + int.from_bytes(file[:8], "little") :]


def hash_tensors(file: bytes) -> str:
    """SHA-256 over a safetensors file's tensors, whatever its header says."""
    return hashlib.sha256(tensor_bytes(file)).hexdigest()


def write_safetensors(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """The same tensors and metadata give the same bytes: safetensors 0.8 writes its metadata in random order
    (safetensors#584), so the header is written again with sorted keys. Whole or absent; folders are made."""
    body = save({key: value.contiguous() for key, value in tensors.items()}, dict(metadata))
    length = int.from_bytes(body[:8], "little")
    header = json.dumps(json.loads(body[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    # Two trainers of one machine may write the same file of a shared cache at once.
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("wb") as file:
        for part in (len(header).to_bytes(8, "little"), header, tensor_bytes(body)):
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def export(modules: Sequence[LoraModule], described: Mapping[str, str], folder: Path) -> dict[AdapterFormat, Path]:
    """Writes both files; returns format -> path."""
    files: dict[AdapterFormat, Path] = {
        "kohya": folder / "adapter.safetensors",
        "diffusers": folder / "pytorch_lora_weights.safetensors",
    }
    write_safetensors(files["kohya"], to_kohya(modules), described)
    shared = {key: value for key, value in described.items() if key.startswith("modelspec.")}
    write_safetensors(files["diffusers"], to_diffusers(modules), shared | describe_for_diffusers(modules))
    return files
