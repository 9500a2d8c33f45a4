"""Turns a spec, a dataset and a base into a plan: every open choice becomes a number.

The plan alone decides what the adapter's bytes are (with the device and the library versions): the
trainer reads nothing else of the job.
"""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from core.domain.dataset import Bucket, DatasetManifest, choose_bucket
from core.domain.errors import InvalidSpec
from core.domain.model import Defaults, Family, ModelInfo
from core.domain.spec import AdapterType, Precision, Preset, Targets, TrainingSpec

MAX_PIXELS_PER_STEP = 64 * 1024 * 1024
PRESET_STEPS: dict[Preset, float] = {"auto": 1.0, "subject": 1.0, "style": 1.5, "quick": 0.4}
CHECKPOINTS_PER_JOB = 5
GRIDS_PER_JOB = 3
BYTES_PER_WEIGHT = 2


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlannedImage(Part):
    """One image of the set: the key of its pixels, its training size and the caption that is taught."""

    key: str
    sha256: str
    bucket: Bucket
    caption: str


class TrainPlan(Part):
    name: str
    trigger: str
    model: str
    model_sha256: str
    family: Family
    dataset_sha256: str
    images: tuple[PlannedImage, ...]

    adapter_type: AdapterType
    rank: int
    alpha: float
    targets: Targets
    steps: int
    batch_size: int
    gradient_accumulation: int
    resolution: int
    flip: bool
    precision: Precision
    gradient_checkpointing: Literal["auto"] | bool
    seed: int

    optimizer: Literal["adamw"]
    learning_rate: float
    weight_decay: float
    betas: tuple[float, float]
    schedule: Literal["constant", "cosine"]
    warmup_steps: int
    max_grad_norm: float

    min_snr_gamma: float | None
    noise_offset: float
    caption_dropout: float
    caption_shuffle: bool
    caption_keep_tokens: int

    checkpoint_every: int
    checkpoint_keep: int
    sample_prompts: tuple[str, ...]
    sample_every: int
    sample_num_steps: int
    sample_guidance_scale: float
    sample_seed: int
    max_duration_seconds: int | None

    @property
    def sample_steps(self) -> tuple[int, ...]:
        """The steps after which a grid is drawn: every ``sample_every``, and the last."""
        if not self.sample_prompts:
            return ()
        return tuple(sorted({*range(self.sample_every, self.steps + 1, self.sample_every), self.steps}))


class Estimate(Part):
    """What a job will take, said before it runs. Seconds and memory are None where nothing was measured."""

    steps: int
    seconds: float | None
    peak_memory_bytes: int | None
    adapter_bytes: int
    basis: str


class Measured(Part):
    """Means over earlier jobs on the same base."""

    num_jobs: int
    seconds_per_sample: float
    resolution: int
    peak_memory_bytes: int


def resolve(spec: TrainingSpec, manifest: DatasetManifest, model: ModelInfo) -> TrainPlan:
    """Raises InvalidSpec where the spec does not fit this base or this set."""
    defaults = model.defaults
    resolution = _resolve_resolution(spec, model)
    batch_size = spec.batch_size or min(defaults.batch_size, max(1, len(manifest.images)))
    steps = _resolve_steps(spec, len(manifest.images), batch_size, defaults)
    rank = spec.adapter.rank or defaults.rank
    trigger = spec.trigger or ""
    plan = TrainPlan(
        name=spec.name or spec.trigger or "adapter",
        trigger=trigger,
        model=model.id,
        model_sha256=model.sha256,
        family=model.family,
        dataset_sha256=manifest.content_hash(),
        images=_plan_images(spec, manifest, resolution, model.resolution_step),
        adapter_type=spec.adapter.type or defaults.adapter_type,
        rank=rank,
        alpha=spec.adapter.alpha or float(rank),
        targets=spec.adapter.targets or ("all" if spec.preset == "style" else defaults.targets),
        steps=steps,
        batch_size=batch_size,
        gradient_accumulation=spec.gradient_accumulation,
        resolution=resolution,
        flip=spec.flip,
        precision=spec.precision,
        gradient_checkpointing=spec.gradient_checkpointing,
        seed=spec.seed,
        optimizer=spec.optimizer.name,
        learning_rate=spec.optimizer.learning_rate or defaults.learning_rate,
        weight_decay=spec.optimizer.weight_decay,
        betas=spec.optimizer.betas,
        schedule=spec.schedule.name or defaults.schedule,
        warmup_steps=min(steps // 10, 100) if spec.schedule.warmup_steps is None else spec.schedule.warmup_steps,
        max_grad_norm=1.0,
        min_snr_gamma=spec.loss.min_snr_gamma
        if "min_snr_gamma" in spec.loss.model_fields_set
        else defaults.min_snr_gamma,
        noise_offset=spec.loss.noise_offset,
        caption_dropout=spec.captions.dropout,
        caption_shuffle=spec.captions.shuffle,
        caption_keep_tokens=spec.captions.keep_tokens,
        checkpoint_every=spec.checkpoints.every or max(25, math.ceil(steps / CHECKPOINTS_PER_JOB)),
        checkpoint_keep=spec.checkpoints.keep,
        sample_prompts=_resolve_prompts(spec, model, trigger),
        sample_every=spec.samples.every or max(1, math.ceil(steps / GRIDS_PER_JOB)),
        sample_num_steps=spec.samples.num_steps or defaults.sample_num_steps,
        sample_guidance_scale=spec.samples.guidance_scale or defaults.sample_guidance_scale,
        sample_seed=spec.samples.seed,
        max_duration_seconds=spec.max_duration_seconds,
    )
    _check_work(plan)
    return plan


def _resolve_resolution(spec: TrainingSpec, model: ModelInfo) -> int:
    resolution = spec.resolution or model.resolution
    low, high = model.resolution // 2, model.resolution * 2
    if resolution % model.resolution_step or not low <= resolution <= high:
        raise InvalidSpec(
            f"resolution {resolution} does not fit the model {model.id}: give a multiple of {model.resolution_step} "
            f"from {low} to {high}; it was made at {model.resolution}.",
            {"/resolution": [f"must be a multiple of {model.resolution_step} from {low} to {high}"]},
        )
    return resolution


def _resolve_steps(spec: TrainingSpec, num_images: int, batch_size: int, defaults: Defaults) -> int:
    if spec.steps is not None:
        return spec.steps
    if spec.epochs is not None:
        return spec.epochs * math.ceil(num_images / (batch_size * spec.gradient_accumulation))
    wanted = round(num_images * defaults.steps_per_image * PRESET_STEPS[spec.preset] / 10) * 10
    low, high = (round(bound * PRESET_STEPS[spec.preset]) for bound in (defaults.min_steps, defaults.max_steps))
    return max(low, min(high, wanted))


def _plan_images(spec: TrainingSpec, manifest: DatasetManifest, resolution: int, step: int) -> tuple[PlannedImage, ...]:
    square = Bucket(width=resolution, height=resolution)
    return tuple(
        PlannedImage(
            key=image.key,
            sha256=image.sha256,
            bucket=choose_bucket(image.width, image.height, resolution, step) if spec.bucketing else square,
            caption=teach(spec, image.caption),
        )
        for image in manifest.images
    )


def teach(spec: TrainingSpec, caption: str | None) -> str:
    """The text that an image is trained under.

    The template where one is given; else the caption, with the trigger in front unless it already has it;
    else the trigger alone.
    """
    trigger = spec.trigger or ""
    if spec.captions.template is not None:
        return spec.captions.template.format(trigger=trigger, caption=caption or "").strip(" ,")
    if caption is None or not trigger or trigger.lower() in caption.lower():
        return caption or trigger
    return f"{trigger}, {caption}"


def _resolve_prompts(spec: TrainingSpec, model: ModelInfo, trigger: str) -> tuple[str, ...]:
    prompts = spec.samples.prompts if spec.samples.prompts is not None else _default_prompts(model, trigger)
    return tuple(prompt.replace("{trigger}", trigger).strip() for prompt in prompts)


def _default_prompts(model: ModelInfo, trigger: str) -> tuple[str, ...]:
    return tuple(p for p in model.example_prompts or ("{trigger}",) if trigger or "{trigger}" not in p)


def _check_work(plan: TrainPlan) -> None:
    if plan.batch_size * plan.resolution**2 > MAX_PIXELS_PER_STEP:
        raise InvalidSpec(
            f"batch_size {plan.batch_size} at resolution {plan.resolution} is more than any worker can hold: "
            "lower one of them, and use gradient_accumulation for a larger effective batch.",
            {"/batch_size": ["too large for this resolution"]},
        )
    if not any(image.caption for image in plan.images):
        raise InvalidSpec(
            "No image has a caption and no trigger is given, so there is nothing to call the concept by: set trigger.",
            {"/trigger": ["needed, because the dataset has no captions"]},
        )


def estimate(plan: TrainPlan, model: ModelInfo, measured: Measured | None) -> Estimate:
    """Scales what earlier jobs on this base took; else the model's calibration; else says that it cannot know."""
    adapter_bytes = plan.rank * model.adapter_dims[f"{plan.adapter_type}/{plan.targets}"] * BYTES_PER_WEIGHT
    samples = plan.steps * plan.batch_size * plan.gradient_accumulation
    calibration = model.calibration
    pictures = (len(plan.sample_steps) + 1) * len(plan.sample_prompts)
    seconds: float | None = None
    memory: int | None = None
    rest, basis = 0.0, "nothing was measured on this base yet"
    if calibration is not None:
        scale = (plan.resolution / calibration.resolution) ** 2
        rest = calibration.start_seconds + pictures * calibration.seconds_per_picture * scale
        seconds = rest + samples * calibration.seconds_per_sample * scale
        memory = round(calibration.base_memory_bytes + plan.batch_size * scale * calibration.memory_bytes_per_sample)
        basis = f"the model's calibration on {calibration.device}"
    if measured is not None:
        scale = (plan.resolution / measured.resolution) ** 2
        seconds = rest + samples * measured.seconds_per_sample * scale
        memory = max(memory or 0, measured.peak_memory_bytes)
        basis = f"{measured.num_jobs} earlier jobs on this base"
    return Estimate(
        steps=plan.steps,
        seconds=None if seconds is None else round(seconds, 1),
        peak_memory_bytes=memory,
        adapter_bytes=adapter_bytes,
        basis=basis,
    )
