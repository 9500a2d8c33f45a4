"""What is decided by a plan's memory: gradient checkpointing, in how many passes a batch goes through the network, and
whether a plan fits at all. All of it needs the table in the base's card."""

from collections.abc import Iterator
from dataclasses import dataclass

from core.domain.dataset import Bucket
from core.domain.errors import InvalidSpec
from core.domain.generation import GenerationPlan
from core.domain.memory import DeviceKind, Setting, choose_numerics, predict_generation, predict_peak
from core.domain.memory_table import Numerics
from core.domain.model import ModelInfo
from core.domain.plan import PlannedImage, TrainPlan

CUDA_RESERVE_BYTES = 1_000_000_000
"""CUDA's context, cuDNN's and cuBLAS's workspaces: they are not among a process's tensors."""
USABLE: dict[DeviceKind, float] = {"cpu": 0.5, "cuda": 0.92}
"""The share of a device's memory that a job may be planned for. A GPU's allocator leaves gaps; a CPU's memory is also
that of all other programs, and a process that takes too much of it is killed without warning."""
TOLERANCE = 0.9
"""A plan is refused only if it would not fit if the prediction were as much too high as it may be."""


def usable_bytes(kind: DeviceKind, memory_bytes: int) -> int:
    """Of a device with so much memory, for a trainer's process."""
    reserved = CUDA_RESERVE_BYTES if kind == "cuda" else 0
    return max(0, round(memory_bytes * USABLE[kind]) - reserved)


def choose_setting(plan: TrainPlan, model: ModelInfo, kind: DeviceKind, numerics: Numerics, usable: int) -> Setting:
    """The fastest that fits into ``usable`` bytes; if none does, the one that takes least. Needs the base's table."""
    peaks = {setting: predict_peak(plan, model, kind, setting) for setting in list_settings(plan, numerics)}
    fitting = (setting for setting, peak in peaks.items() if peak <= usable)
    return next(fitting, min(peaks, key=peaks.__getitem__))


def list_settings(plan: TrainPlan, numerics: Numerics) -> Iterator[Setting]:
    """Those that the plan allows, the fastest first: checkpointing is tried before smaller passes, which leave a GPU
    idle."""
    auto = (False, True) if plan.gradient_checkpointing == "auto" else (plan.gradient_checkpointing,)
    for checkpointing in auto:
        yield Setting(numerics, checkpointing)
    size = max(plan.batch_size, plan.class_images_per_batch)
    while size > 1:
        size = -(-size // 2)
        yield Setting(numerics, auto[-1], size)


@dataclass(frozen=True)
class Change:
    """A change of the spec that makes a plan fit: the field, and what to do with it."""

    field: str
    advice: str


def fits(plan: TrainPlan, model: ModelInfo, kind: DeviceKind, memory_bytes: int) -> bool:
    """Whether a device can run the plan in any way that the plan allows, as far as a prediction can tell."""
    return predict_least(plan, model, kind) * TOLERANCE <= memory_bytes


def predict_least(plan: TrainPlan, model: ModelInfo, kind: DeviceKind) -> int:
    """Bytes, in the way that takes least."""
    settings = list_settings(plan, choose_numerics(kind, plan.precision))
    return min(predict_peak(plan, model, kind, setting) for setting in settings)


def check_generation(plan: GenerationPlan, model: ModelInfo, kind: DeviceKind, memory_bytes: int) -> None:
    """Raises InvalidSpec for images that do not fit on a device with so much memory, as far as one can tell."""
    if model.memory is None:
        return
    numerics = choose_numerics(kind, "auto")
    needed = predict_generation(plan, model, kind, numerics)
    if needed * TOLERANCE <= memory_bytes:
        return
    side = model.resolution
    smaller = plan.model_copy(update={"width": side, "height": side})
    fits_then = predict_generation(smaller, model, kind, numerics) * TOLERANCE <= memory_bytes
    advice = f"draw at {side} x {side}" if fits_then and plan.width * plan.height > side**2 else "choose a smaller base"
    field = "/model" if advice.endswith("base") else "/width"
    message = f"takes about {needed:,} bytes of memory, and the largest device here has {memory_bytes:,}: {advice}"
    raise InvalidSpec.of({field: message})


def find_change(plan: TrainPlan, model: ModelInfo, kind: DeviceKind, memory_bytes: int) -> Change | None:
    """The smallest change with which the plan fits, that which costs least first; None if there is none."""
    for change, changed in list_changes(plan, model):
        if fits(changed, model, kind, memory_bytes):
            return change
    return None


def list_changes(plan: TrainPlan, model: ModelInfo) -> Iterator[tuple[Change, TrainPlan]]:
    if plan.gradient_checkpointing is False:
        plan = plan.model_copy(update={"gradient_checkpointing": True})
        yield Change("/gradient_checkpointing", "set it to true"), plan
    if plan.precision == "fp32":
        yield Change("/precision", "set it to auto"), plan.model_copy(update={"precision": "auto"})
    if plan.text_encoder_rank is not None:
        frozen = {"text_encoder_rank": None, "text_encoder_learning_rate": None}
        yield Change("/text_encoder/train", "set it to false"), plan.model_copy(update=frozen)
    for resolution in range(plan.resolution - model.resolution_step, model.resolution // 2 - 1, -model.resolution_step):
        yield Change("/resolution", f"lower it to {resolution}"), _shrink(plan, resolution)
    for rank in (64, 32, 16, 8, 4, 1):
        if rank < plan.rank:
            yield Change("/adapter/rank", f"lower it to {rank}"), plan.model_copy(update={"rank": rank})


def _shrink(plan: TrainPlan, resolution: int) -> TrainPlan:
    """About as ``resolve`` would plan it: each image by the same factor."""
    scale = resolution / plan.resolution

    def shrink(images: tuple[PlannedImage, ...]) -> tuple[PlannedImage, ...]:
        return tuple(image.model_copy(update={"bucket": _scale(image.bucket, scale)}) for image in images)

    images, class_images = shrink(plan.images), shrink(plan.class_images)
    return plan.model_copy(update={"resolution": resolution, "images": images, "class_images": class_images})


def _scale(bucket: Bucket, scale: float) -> Bucket:
    return Bucket(width=round(bucket.width * scale), height=round(bucket.height * scale))
