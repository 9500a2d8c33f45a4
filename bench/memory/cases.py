"""The jobs whose memory is compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.model_folders import BUNDLED

TINY = BUNDLED / "tiny"

CaseBase = Literal["tiny", "sd15", "sdxl"]


@dataclass(frozen=True)
class Case:
    """``spec``: beside what all cases have in common."""

    name: str
    base: CaseBase
    title: str
    spec: Mapping[str, Any]


def _case(name: str, base: CaseBase, title: str, **spec: Any) -> Case:
    return Case(name, base, title, spec)


_LOCON = {"adapter": {"type": "locon", "targets": "all"}}
_LORA = {"adapter": {"type": "lora", "targets": "attention"}}
_SMALL = {"resolution": 256, **_LORA}
_FOUR = {"resolution": 512, "batch_size": 4}
_SAVING = {"gradient_checkpointing": True}
_PLAIN = {"gradient_checkpointing": False}

CASES = [
    _case("tiny", "tiny", "as by default", **_PLAIN),
    _case("tiny-saved", "tiny", "with checkpointing", **_SAVING),
    _case("tiny-fp32", "tiny", "fp32, batch 16", precision="fp32", batch_size=16, **_PLAIN),
    _case("sd15", "sd15", "256 px", **_PLAIN, **_SMALL),
    _case("sd15-saved", "sd15", "256 px, with checkpointing", **_SAVING, **_SMALL),
    _case("sd15-batch", "sd15", "256 px, batch 4", batch_size=4, **_PLAIN, **_SMALL),
    _case("sd15-locon", "sd15", "256 px, locon on all, with checkpointing", resolution=256, **_SAVING, **_LOCON),
    _case("sd15-text", "sd15", "256 px, text encoder trained", text_encoder={"train": True}, **_PLAIN, **_SMALL),
    _case("sd15-512", "sd15", "512 px, with checkpointing", resolution=512, **_SAVING, **_LORA),
]

GPU_CASES = [
    _case("gpu-sd15", "sd15", "512 px, batch 4", **_FOUR, **_PLAIN, **_LORA),
    _case("gpu-sd15-saved", "sd15", "512 px, batch 4, with checkpointing", **_FOUR, **_SAVING, **_LORA),
    _case("gpu-sdxl-saved", "sdxl", "1024 px, with checkpointing", resolution=1024, batch_size=1, **_SAVING, **_LORA),
]
SMALL_CASES = [
    _case("small-sd15", "sd15", "64 px", resolution=64, **_PLAIN, **_LORA),
    _case("small-sdxl", "sdxl", "64 px, with checkpointing", resolution=64, **_SAVING, **_LORA),
]
"""For bases of small shapes."""


def find_case(name: str) -> Case:
    return next(case for case in [*CASES, *GPU_CASES, *SMALL_CASES] if case.name == name)
