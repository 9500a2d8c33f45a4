"""What a training on a base needs, for those who choose one: from its card, without a dataset."""

from typing import Literal

from pydantic import BaseModel, Field

from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.memory import DeviceKind, choose_numerics, predict_peak
from core.domain.memory_choices import list_settings
from core.domain.model import ModelInfo
from core.domain.resolve import resolve
from core.domain.spec import TrainingSpec

KINDS: tuple[DeviceKind, ...] = ("cuda", "cpu")


class MemoryNeed(BaseModel):
    """Predicted bytes of a training with the base's own defaults at its native resolution."""

    device: Literal["cpu", "cuda"] = Field(description="A CPU's memory includes the trainer's process.")
    fastest_bytes: int = Field(description="Without gradient checkpointing, a whole batch in one pass.")
    least_bytes: int = Field(description="With gradient checkpointing, or a sample at a time.")


def predict_needs(model: ModelInfo) -> tuple[MemoryNeed, ...] | None:
    """None if the base's memory was not traced."""
    if model.memory is None:
        return None
    plan = resolve(TrainingSpec(trigger="it"), _square(model.resolution), model)
    needs = []
    for kind in KINDS:
        settings = list_settings(plan, choose_numerics(kind, plan.precision))
        peaks = [predict_peak(plan, model, kind, setting) for setting in settings]
        needs.append(MemoryNeed(device=kind, fastest_bytes=peaks[0], least_bytes=min(peaks)))
    return tuple(needs)


def _square(side: int) -> DatasetManifest:
    """One image of the size that the base was trained on; nothing reads its file."""
    image = ManifestImage(
        name="image.png", key="", sha256="0" * 64, size=0, width=side, height=side, caption="it", dhash="0" * 16,
        sharpness=0.0,
    )  # fmt: skip
    return DatasetManifest(images=(image,))
