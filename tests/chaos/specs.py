"""The jobs that are posted: a fixed set of specs that together use every part of a checkpoint, and one dataset."""

from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[2] / "examples" / "blip"
NUM_PICTURES = 8

_COMMON: dict[str, Any] = {
    "model": "tiny",
    "trigger": "blip",
    "batch_size": 2,
    "evaluation": "off",
    "adapter": {"type": "lora", "rank": 4, "targets": "attention"},
    "checkpoints": {"every": 4},
    "validation": {"fraction": 0},
    "loss": {"prior_preservation": {"num_images": 0}},
    "samples": {
        "prompts": ["a large {trigger} on a blue background"],
        "every": 8,
        "num_steps": 3,
        "guidance_scale": 1,
    },
}

SPECS: dict[str, dict[str, Any]] = {
    "adamw-fp32": {"steps": 20, "precision": "fp32", "seed": 1},
    "ema-bf16": {
        "steps": 16,
        "precision": "bf16",
        "adapter": {"type": "lora", "rank": 4, "targets": "all", "ema": 0.9},
        "schedule": {"name": "cosine", "warmup_steps": 4},
        "evaluation": "on",
    },
    "text-encoder": {"steps": 16, "precision": "fp32", "text_encoder": {"train": True, "rank": 2}},
    "prior": {
        "steps": 16,
        "precision": "bf16",
        "loss": {"prior_preservation": {"num_images": 8, "class_prompt": "a small lemon on a green background"}},
        "evaluation": "on",
    },
    "validation": {
        "steps": 16,
        "precision": "fp32",
        "validation": {"fraction": 0.5, "every": 4},
        "evaluation": "on",
    },
    "prodigy-dropout": {
        "steps": 16,
        "precision": "fp32",
        "optimizer": {"name": "prodigy"},
        "adapter": {"type": "lora", "rank": 4, "targets": "attention", "dropout": 0.1},
        "captions": {"dropout": 0.3, "shuffle": True},
    },
    "lion-accumulation": {
        "steps": 14,
        "precision": "bf16",
        "optimizer": {"name": "lion"},
        "gradient_accumulation": 2,
        "flip": True,
        "loss": {"noise_offset": 0.05, "prior_preservation": {"num_images": 0}},
    },
    "dora-adafactor": {
        "steps": 20,
        "precision": "fp32",
        "optimizer": {"name": "adafactor"},
        "adapter": {"type": "dora", "rank": 4, "targets": "attention_ff"},
        "loss": {"type": "huber", "min_snr_gamma": 5, "prior_preservation": {"num_images": 0}},
        "evaluation": "on",
    },
}


def body_of(spec: str, dataset_id: str, **changes: Any) -> dict[str, Any]:
    """What is posted. Jobs of one spec have the same body but for the name of their dataset."""
    return {**_COMMON, "dataset": dataset_id, **SPECS[spec], **changes}


def pictures(count: int) -> list[Path]:
    """The example's pictures with their captions."""
    images = sorted(EXAMPLE.glob("*.png"))[:count]
    assert len(images) == count
    return [path for image in images for path in (image, image.with_suffix(".txt"))]
