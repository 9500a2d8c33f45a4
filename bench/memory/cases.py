"""The jobs whose memory is compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.model_folders import BUNDLED

TINY = BUNDLED / "tiny"


@dataclass(frozen=True)
class Case:
    """``spec``: beside what all cases have in common."""

    name: str
    base: Literal["tiny", "sd15"]
    title: str
    spec: Mapping[str, Any]


def _case(name: str, base: Literal["tiny", "sd15"], title: str, **spec: Any) -> Case:
    return Case(name, base, title, spec)


_LOCON = {"adapter": {"type": "locon", "targets": "all"}}
_LORA = {"adapter": {"type": "lora", "targets": "attention"}}
_SMALL = {"resolution": 256, **_LORA}
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
