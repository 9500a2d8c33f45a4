"""The estimated time and memory of a job, before it runs."""

from pydantic import Field

from core.domain.base import Frozen
from core.domain.model import ModelInfo
from core.domain.plan import TrainPlan

BYTES_PER_WEIGHT = 2
BYTES_PER_TRAINED = 8
"""A parameter in fp32 and its gradient; the optimizer's state comes on top."""
NUM_VALIDATION_TIMESTEPS = 8
"""The number of timesteps for each held-out image's loss."""
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


def estimate(plan: TrainPlan, model: ModelInfo, measured: Measured | None) -> Estimate:
    """Scales the measurements of earlier jobs on this base; else the model's calibration, which comes with its card and
    may be from another machine; else states that there is no basis."""
    seconds: float | None = None
    memory: int | None = None
    basis, calibration = "nothing was measured on this base yet", model.calibration
    known = measured or calibration
    if known is not None:
        scale = (plan.resolution / known.resolution) ** 2
        work = count_samples(plan) * known.seconds_per_sample + count_images(plan) * known.seconds_per_image
        seconds = round(known.start_seconds + work * scale, 1)
    if calibration is not None:
        scale = (plan.resolution / calibration.resolution) ** 2
        at_once = max(plan.batch_size, plan.class_images_per_batch)
        memory = round(calibration.base_memory_bytes + at_once * scale * calibration.memory_bytes_per_sample)
        basis = f"the model's calibration on {calibration.device}; no job on this base was measured here yet"
    if measured is not None:
        memory = max(memory or 0, measured.peak_memory_bytes)
        basis = _describe_jobs(measured)
    return Estimate(
        steps=plan.steps,
        seconds=seconds,
        peak_memory_bytes=memory,
        adapter_bytes=_count_parameters(plan, model) * BYTES_PER_WEIGHT,
        basis=basis,
    )


def _describe_jobs(measured: Measured) -> str:
    count = "one earlier job" if measured.num_jobs == 1 else f"the median of {measured.num_jobs} earlier jobs"
    return f"{count} on this base" + (f", on {measured.device}" if measured.device else "")


def count_least_memory(plan: TrainPlan, model: ModelInfo) -> int:
    """Bytes below which no device can run the plan, whatever it saves: the base's denoiser and the trained parameters,
    without activations or the optimizer's moments."""
    per_weight = 4 if plan.precision == "fp32" else BYTES_PER_WEIGHT
    return model.num_parameters * per_weight + _count_parameters(plan, model) * BYTES_PER_TRAINED


def _count_parameters(plan: TrainPlan, model: ModelInfo) -> int:
    """DoRA's magnitudes, one per output, are omitted: they are less than a hundredth."""
    kind = "locon" if plan.adapter_type == "locon" else "lora"
    text = (plan.text_encoder_rank or 0) * model.adapter_dims.get(f"text_encoder/{plan.targets}", 0)
    return plan.rank * model.adapter_dims[f"{kind}/{plan.targets}"] + text
