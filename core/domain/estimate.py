"""The estimated time and memory of a job, before it runs."""

from collections.abc import Set

from pydantic import Field

from core.domain.base import Frozen
from core.domain.counts import counted
from core.domain.memory import (
    NUM_VALIDATION_TIMESTEPS,
    DeviceKind,
    Setting,
    choose_numerics,
    count_adapter_parameters,
    predict_peak,
)
from core.domain.memory_choices import choose_setting, list_settings, usable_bytes
from core.domain.model import Calibration, ModelInfo
from core.domain.plan import TrainPlan

BYTES_PER_WEIGHT = 2
BYTES_PER_TRAINED = 8
"""A parameter in fp32 and its gradient; the optimizer's state comes on top."""
FORWARD_SHARE = 1 / 3
"""A share of a training sample's time: the backward pass takes about twice as long as the forward pass."""


class Estimate(Frozen):
    """The estimated time and memory of a job. Seconds and memory are None if nothing was measured."""

    steps: int = Field(description="Training steps.")
    seconds: float | None = Field(description="From its start to its end, without the time in the queue.")
    peak_memory_bytes: int | None = Field(description="The estimated peak memory use.")
    adapter_bytes: int = Field(description="The size of the adapter's file.")
    basis: str = Field(description="The source of the times and the memory.")


class Measured(Frozen):
    """Medians over earlier undisturbed jobs on the same base and device. ``device`` is its name, None if the jobs did
    not record it."""

    num_jobs: int
    seconds_per_sample: float
    seconds_per_image: float
    start_seconds: float
    resolution: int
    peak_memory_bytes: int
    device: str | None = None


def count_step_samples(plan: TrainPlan) -> float:
    """Images that go forward and backward through the network in a step. A class image goes forward once more, for the
    base's prediction."""
    return plan.gradient_accumulation * (plan.batch_size + plan.class_images_per_batch * (1 + FORWARD_SHARE))


def count_samples(plan: TrainPlan) -> float:
    """The samples of all steps, and those that only go forward, as a fraction of one."""
    trained = plan.steps * count_step_samples(plan)
    looks = len(plan.validation_steps) + 1 if plan.held_out_images else 0
    return trained + looks * len(plan.held_out_images) * NUM_VALIDATION_TIMESTEPS * FORWARD_SHARE


def count_images(plan: TrainPlan) -> int:
    """The images for grids, cover and scores, and for prior preservation if the base draws them (they may
    exist already)."""
    grids = (len(plan.sample_steps) + 1) * len(plan.sample_prompts) + bool(plan.sample_prompts)
    scores = 2 * len(plan.neutral_prompts) if plan.evaluation else 0
    drawn = 0 if plan.class_images else plan.prior_num_images
    return grids + scores + drawn


def estimate(
    plan: TrainPlan,
    model: ModelInfo,
    measured: Measured | None,
    *,
    kinds: Set[str] = frozenset(),
    largest_memory: int | None = None,
) -> Estimate:
    """Time is scaled from earlier jobs on this base; else from the model's calibration, which comes with its card and
    may be from another machine; else the basis states that there is none. Memory is predicted from the table in the
    card, for the largest device of these ``kinds``; without a table it is scaled too."""
    seconds, basis = _estimate_time(plan, model.calibration, measured)
    if model.memory is None:
        memory = _scale_memory(plan, model.calibration, measured)
    else:
        memory, setting = _predict_memory(plan, model, "cuda" if "cuda" in kinds else "cpu", largest_memory)
        basis = f"{basis}; the memory is traced, {describe_setting(setting)}"
    return Estimate(
        steps=plan.steps,
        seconds=seconds,
        peak_memory_bytes=memory,
        adapter_bytes=count_adapter_parameters(plan, model) * BYTES_PER_WEIGHT,
        basis=basis,
    )


def _estimate_time(
    plan: TrainPlan, calibration: Calibration | None, measured: Measured | None
) -> tuple[float | None, str]:
    """Seconds and their basis."""
    known = measured or calibration
    if known is None:
        return None, "nothing was measured on this base yet"
    scale = (plan.resolution / known.resolution) ** 2
    work = count_samples(plan) * known.seconds_per_sample + count_images(plan) * known.seconds_per_image
    seconds = round(known.start_seconds + work * scale, 1)
    if measured is not None:
        return seconds, _describe_jobs(measured)
    assert calibration is not None
    return seconds, f"a few timed steps on {calibration.device}; no job on this base was measured here yet"


def _scale_memory(plan: TrainPlan, calibration: Calibration | None, measured: Measured | None) -> int | None:
    memory: int | None = None if measured is None else measured.peak_memory_bytes
    if calibration is not None and calibration.base_memory_bytes is not None:
        scale = (plan.resolution / calibration.resolution) ** 2
        at_once = max(plan.batch_size, plan.class_images_per_batch)
        scaled = round(calibration.base_memory_bytes + at_once * scale * calibration.memory_bytes_per_sample)
        memory = max(memory or 0, scaled)
    return memory


def _predict_memory(
    plan: TrainPlan, model: ModelInfo, kind: DeviceKind, largest_memory: int | None
) -> tuple[int, Setting]:
    """As the worker will decide it. CPUs without bf16 train in fp32, and nobody has said which it is: fp32 takes
    more."""
    precision = "fp32" if (kind, plan.precision) == ("cpu", "auto") else plan.precision
    numerics = choose_numerics(kind, precision)
    if largest_memory is None:
        setting = next(list_settings(plan, numerics))
    else:
        setting = choose_setting(plan, model, kind, numerics, usable_bytes(kind, largest_memory))
    return predict_peak(plan, model, kind, setting), setting


def describe_setting(setting: Setting) -> str:
    """``in 16 bits, with gradient checkpointing``."""
    bits = "32" if setting.numerics == "fp32" else "16"
    checkpointing = "with" if setting.checkpointing else "without"
    passes = f", {counted(setting.samples_per_pass, 'sample')} at a time" if setting.samples_per_pass else ""
    return f"in {bits} bits, {checkpointing} gradient checkpointing{passes}"


def _describe_jobs(measured: Measured) -> str:
    count = "one earlier job" if measured.num_jobs == 1 else f"the median of {measured.num_jobs} earlier jobs"
    return f"{count} on this base" + (f", on {measured.device}" if measured.device else "")


def count_least_memory(plan: TrainPlan, model: ModelInfo) -> int:
    """Bytes below which no device can run the plan, whatever it saves: the base's denoiser and the trained parameters,
    without activations or the optimizer's moments."""
    per_weight = 4 if plan.precision == "fp32" else BYTES_PER_WEIGHT
    return model.num_parameters * per_weight + count_adapter_parameters(plan, model) * BYTES_PER_TRAINED
