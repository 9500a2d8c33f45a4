"""What is measured, and how much of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.domain.counts import counted
from tests.fixtures.true_bases import Shapes

TRIGGER = "zap"
ATTENTION, ALL = "attention", "all"
"""The adapter's targets: those of diffusers' script (128 layers of SD 1.5), and those of sd-scripts (192)."""


@dataclass(frozen=True)
class Sizes:
    """``resolution`` in pixels; ``repeats``: how often each is measured; ``threads``: of every trainer."""

    shapes: Shapes
    resolution: int
    steps: int
    images: int
    rank: int
    threads: int
    precision: str
    repeats: int

    def spec(self, targets: str) -> dict[str, Any]:
        """The job's, with nothing that other trainers do not do."""
        return {
            "steps": self.steps, "resolution": self.resolution, "batch_size": 1, "precision": self.precision,
            "gradient_checkpointing": False, "evaluation": "off", "samples": {"prompts": []},
            "validation": {"fraction": 0}, "loss": {"prior_preservation": {"num_images": 0}},
            "adapter": {"type": "lora", "rank": self.rank, "targets": targets},
            "optimizer": {"learning_rate": 1e-4}, "schedule": {"name": "constant", "warmup_steps": 0},
        }  # fmt: skip

    def title(self) -> str:
        base = "SD 1.5's shapes with random weights" if self.shapes == "true" else "small shapes"
        sizes = f"{counted(self.images, 'image')} of {self.resolution} px, batch 1, rank {self.rank}, {self.precision}"
        times = f"{counted(self.steps, 'step')}, {counted(self.threads, 'thread')}"
        return f"{base}, {sizes}, {times}, {counted(self.repeats, 'measurement')}"


@dataclass(frozen=True)
class Place:
    """The base, the images with their captions beside them, and where things are written."""

    base: Path
    pictures: Path
    scratch: Path


@dataclass(frozen=True)
class ProcessTimes:
    """Of another trainer: the whole process in seconds, a step by the difference of two runs, and the most memory in
    bytes."""

    seconds: float
    seconds_per_step: float
    peak_bytes: int
