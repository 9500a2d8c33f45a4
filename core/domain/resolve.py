"""Turns a spec, a dataset and a base into a plan: every open choice becomes a number."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence

from core.domain.captions import teach
from core.domain.concepts import Concepts
from core.domain.counts import counted
from core.domain.dataset import Bucket, DatasetManifest, ManifestImage, choose_bucket
from core.domain.errors import InvalidSpec
from core.domain.init_adapter import InitAdapterSource, check_init_adapter, fill_defaults
from core.domain.limits import UNLIMITED, Limits
from core.domain.model import Defaults, ModelInfo
from core.domain.plan import PlannedImage, TrainPlan
from core.domain.plan_checks import check_dataset_size, check_limits, check_plan
from core.domain.plan_guidance import choose_guidance
from core.domain.plan_prior import add_plain_captions, call_class_image, choose_prior
from core.domain.prompts import default_prompts, put_trigger
from core.domain.spec import (
    MAX_RESOLUTION,
    MAX_STEPS,
    MIN_RESOLUTION,
    OptimizerName,
    Preset,
    TrainingSpec,
)

STYLE_PRIOR_WEIGHT = 1.0
PRESET_STEPS: dict[Preset, float] = {"auto": 1.0, "subject": 1.0, "style": 1.5, "quick": 0.4}
CHECKPOINTS_PER_JOB = 5
GRIDS_PER_JOB = 3
VALIDATIONS_PER_JOB = 10
MIN_IMAGES_TO_HOLD_OUT = 12
AUTO_HELD_OUT = 0.15
MAX_AUTO_HELD_OUT = 16
BETAS: dict[OptimizerName, tuple[float, float]] = {"lion": (0.9, 0.99)}
RATE_SCALE: dict[OptimizerName, float] = {"lion": 1 / 3}  # arXiv 2302.06675, section 5: 3 to 10 times lower


def resolve(
    spec: TrainingSpec,
    manifest: DatasetManifest,
    model: ModelInfo,
    *,
    init: InitAdapterSource | None = None,
    limits: Limits = UNLIMITED,
    concepts: Concepts = Concepts(),
) -> TrainPlan:
    """``init``: the adapter that ``spec.init_adapter`` names; ``concepts``: of a manifest that several datasets
    make up. Choices that the spec leaves open stay within ``limits``.

    Raises InvalidSpec if the spec does not fit this base, this set, the init adapter or the limits.
    """
    assert (init is None) == (spec.init_adapter is None)
    check_dataset_size(manifest, limits)
    spec = spec if init is None else fill_defaults(spec, init)
    defaults = model.defaults
    resolution = _resolve_resolution(spec, model, limits)
    images = _plan_images(spec, manifest, concepts, resolution, model.resolution_step)
    num_training = sum(not image.held_out for image in images)
    batch_size = spec.batch_size or min(defaults.batch_size, max(1, num_training))
    steps = _resolve_steps(spec, images, batch_size, defaults)
    rank = spec.adapter.rank or min(defaults.rank, limits.rank or defaults.rank)
    trigger = spec.trigger or ""
    rate = _resolve_rate(spec, defaults)
    prior, chosen = spec.loss.prior_preservation, choose_prior(spec, manifest, model)
    if chosen.num_images and not chosen.images:
        images = add_plain_captions(spec, images)
    trains_text = spec.text_encoder.train
    guidance = choose_guidance(spec, defaults)
    plan = TrainPlan(
        name=spec.name or spec.trigger or "adapter",
        trigger=trigger,
        model=model.id,
        model_sha256=model.sha256,
        model_file_sha256=model.file_sha256,
        family=model.family,
        prediction_type=model.prediction_type,
        dataset_sha256=manifest.content_hash(),
        images=images,
        class_images=tuple(
            _plan_image(spec, image, call_class_image(spec, image), resolution, model.resolution_step)
            for image in chosen.images
        ),
        init_adapter=None if init is None else init.file,
        adapter_type=spec.adapter.type or defaults.adapter_type,
        rank=rank,
        alpha=spec.adapter.alpha or float(rank),
        rslora=spec.adapter.rslora,
        targets=spec.adapter.targets or ("all" if spec.preset == "style" else defaults.targets),
        adapter_dropout=spec.adapter.dropout,
        ema=spec.adapter.ema or defaults.ema,
        text_encoder_rank=(spec.text_encoder.rank or rank) if trains_text else None,
        text_encoder_learning_rate=_resolve_text_rate(spec, rate) if trains_text else None,
        steps=steps,
        batch_size=batch_size,
        gradient_accumulation=spec.gradient_accumulation,
        resolution=resolution,
        flip=spec.flip,
        masks=spec.masks and any(image.masked for image in images),
        precision=spec.precision,
        gradient_checkpointing=spec.gradient_checkpointing,
        seed=spec.seed,
        optimizer=spec.optimizer.name,
        learning_rate=rate,
        weight_decay=spec.optimizer.weight_decay,
        betas=_resolve_betas(spec),
        schedule=spec.schedule.name or defaults.schedule,
        warmup_steps=min(steps // 10, 100) if spec.schedule.warmup_steps is None else spec.schedule.warmup_steps,
        num_cycles=spec.schedule.num_cycles,
        max_grad_norm=1.0,
        loss_type=spec.loss.type,
        huber_c=spec.loss.huber_c,
        min_snr_gamma=_resolve_min_snr_gamma(spec, model),
        noise_offset=spec.loss.noise_offset,
        prior_prompts=chosen.prompts,
        prior_num_images=chosen.num_images,
        prior_batch_size=(prior.batch_size or defaults.prior_batch_size) if chosen.num_images else None,
        prior_weight=prior.weight or _choose_prior_weight(spec, defaults),
        caption_dropout=spec.captions.dropout,
        caption_shuffle=spec.captions.shuffle,
        caption_keep_tokens=spec.captions.keep_tokens,
        max_token_length=spec.captions.max_token_length,
        validation_every=spec.validation.every or max(1, math.ceil(steps / VALIDATIONS_PER_JOB)),
        patience=spec.validation.early_stopping.patience,
        min_delta=spec.validation.early_stopping.min_delta,
        evaluation=spec.evaluation == "on",
        neutral_prompts=model.neutral_prompts if spec.evaluation == "on" else (),
        checkpoint_every=spec.checkpoints.every or max(25, math.ceil(steps / CHECKPOINTS_PER_JOB)),
        checkpoint_keep=spec.checkpoints.keep,
        checkpoint_adapters=spec.checkpoints.adapters,
        sample_prompts=_resolve_prompts(spec, model, trigger, images),
        sample_every=spec.samples.every or max(1, math.ceil(steps / GRIDS_PER_JOB)),
        sample_num_steps=spec.samples.num_steps or defaults.sample_num_steps,
        sample_guidance_scale=guidance.scale,
        sample_guidance_rescale=guidance.rescale,
        sample_guidance_start=guidance.start,
        sample_guidance_stop=guidance.stop,
        sample_seed=spec.samples.seed,
        max_duration_seconds=spec.max_duration_seconds,
    )
    check_plan(spec, plan)
    check_limits(plan, limits)
    if init is not None:
        check_init_adapter(plan, init)
    return plan


def _choose_prior_weight(spec: TrainingSpec, defaults: Defaults) -> float:
    """A style's class images are in part its own images: what holds a subject's adapter would undo it."""
    return min(STYLE_PRIOR_WEIGHT, defaults.prior_weight) if spec.preset == "style" else defaults.prior_weight


def _resolve_rate(spec: TrainingSpec, defaults: Defaults) -> float:
    """Prodigy (arXiv 2306.06101) finds its own rate; ``learning_rate`` multiplies it."""
    if spec.optimizer.learning_rate is not None:
        return spec.optimizer.learning_rate
    if spec.optimizer.name == "prodigy":
        return 1.0
    return defaults.learning_rate * RATE_SCALE.get(spec.optimizer.name, 1.0)


def _resolve_min_snr_gamma(spec: TrainingSpec, model: ModelInfo) -> float | None:
    """Raises InvalidSpec on a flow-matching base, which weights losses by its choice of timesteps."""
    wanted, flows = spec.loss.min_snr_gamma, model.prediction_type == "flow"
    if wanted is not None and flows:
        raise InvalidSpec(
            f"The model {model.id} is trained by flow matching, which does not use min_snr_gamma: leave it out.",
            {"/loss/min_snr_gamma": ["not for this model"]},
        )
    return wanted if flows or "min_snr_gamma" in spec.loss.model_fields_set else model.defaults.min_snr_gamma


def _resolve_text_rate(spec: TrainingSpec, rate: float) -> float:
    """Raises InvalidSpec for a separate learning rate under Prodigy, which finds one for all parameters."""
    wanted = spec.text_encoder.learning_rate
    if spec.optimizer.name != "prodigy":
        return wanted or rate / 2
    if wanted not in (None, rate):
        raise InvalidSpec(
            "prodigy finds one learning rate for everything: leave text_encoder.learning_rate out.",
            {"/text_encoder/learning_rate": ["not allowed with prodigy"]},
        )
    return rate


def _resolve_betas(spec: TrainingSpec) -> tuple[float, float] | None:
    if spec.optimizer.name == "adafactor":
        return None
    return spec.optimizer.betas or BETAS.get(spec.optimizer.name, (0.9, 0.999))


def _resolve_resolution(spec: TrainingSpec, model: ModelInfo, limits: Limits) -> int:
    resolution = spec.resolution or _default_resolution(model, limits)
    low, high = max(model.resolution // 2, MIN_RESOLUTION), min(model.resolution * 2, MAX_RESOLUTION)
    if resolution % model.resolution_step or not low <= resolution <= high:
        raise InvalidSpec(
            f"resolution {resolution} does not fit the model {model.id}: give a multiple of {model.resolution_step} "
            f"from {low} to {high}; it was trained at {model.resolution}.",
            {"/resolution": [f"must be a multiple of {model.resolution_step} from {low} to {high}"]},
        )
    return resolution


def _default_resolution(model: ModelInfo, limits: Limits) -> int:
    """Within the limits, but at least half of the base's own: below that training is pointless, and the limits
    refuse the plan."""
    if limits.resolution is None or model.resolution <= limits.resolution:
        return model.resolution
    fitting = limits.resolution // model.resolution_step * model.resolution_step
    return fitting if 2 * fitting >= model.resolution else model.resolution


def _resolve_steps(spec: TrainingSpec, images: Sequence[PlannedImage], batch_size: int, defaults: Defaults) -> int:
    """An epoch is every training image, repeats counted, in batches of one bucket each; the presets count the images
    that were uploaded."""
    if spec.steps is not None:
        return spec.steps
    if spec.epochs is not None:
        in_buckets: Counter[Bucket] = Counter()
        for image in images:
            in_buckets[image.bucket] += 0 if image.held_out else image.repeats
        num_batches = spec.epochs * sum(math.ceil(count / batch_size) for count in in_buckets.values())
        steps = math.ceil(num_batches / spec.gradient_accumulation)
        if steps > MAX_STEPS:
            raise InvalidSpec(
                f"{counted(spec.epochs, 'epoch')} of this set {'is' if spec.epochs == 1 else 'are'} "
                f"{steps} steps, more than the limit of {MAX_STEPS}.",
                {"/epochs": [f"are more than {MAX_STEPS} steps with this set and batch size"]},
            )
        return steps
    wanted = round(len(images) * defaults.steps_per_image * PRESET_STEPS[spec.preset] / 10) * 10
    low, high = (round(bound * PRESET_STEPS[spec.preset]) for bound in (defaults.min_steps, defaults.max_steps))
    return max(low, min(high, wanted))


def _plan_images(
    spec: TrainingSpec, manifest: DatasetManifest, concepts: Concepts, resolution: int, step: int
) -> tuple[PlannedImage, ...]:
    held_out, planned = _hold_out(spec, manifest.subjects), []
    for image in manifest.subjects:
        trigger, weight = concepts.triggers.get(image.name, spec.trigger), concepts.weights.get(image.name, 1.0)
        caption = teach(spec.model_copy(update={"trigger": trigger}), image.caption)
        row = _plan_image(spec, image, caption, resolution, step, held_out=image.sha256 in held_out)
        planned.append(row if weight == 1 else row.model_copy(update={"weight": weight}))
    return tuple(planned)


def _plan_image(
    spec: TrainingSpec, image: ManifestImage, caption: str, resolution: int, step: int, *, held_out: bool = False
) -> PlannedImage:
    square = Bucket(width=resolution, height=resolution)
    return PlannedImage(
        key=image.key,
        sha256=image.sha256,
        bucket=choose_bucket(image.width, image.height, resolution, step) if spec.bucketing else square,
        caption=caption,
        masked=image.masked and spec.masks and image.role == "subject",
        held_out=held_out,
        repeats=image.repeats,
    )


def _hold_out(spec: TrainingSpec, images: Sequence[ManifestImage]) -> set[str]:
    """The hashes of the held-out images: the draw depends only on the seed and the images.

    All copies of an image are either held out or trained on.
    """
    fraction, hashes = spec.validation.fraction, sorted({image.sha256 for image in images})
    if fraction == "auto":
        enough = len(images) >= MIN_IMAGES_TO_HOLD_OUT
        count = min(MAX_AUTO_HELD_OUT, round(AUTO_HELD_OUT * len(hashes))) if enough else 0
    else:
        count = min(len(hashes) - 1, math.ceil(fraction * len(hashes)))
    drawn = sorted(hashes, key=lambda sha256: hashlib.sha256(f"{spec.seed}:held-out:{sha256}".encode()).digest())
    return set(drawn[:count])


def _resolve_prompts(
    spec: TrainingSpec, model: ModelInfo, trigger: str, images: Sequence[PlannedImage]
) -> tuple[str, ...]:
    prompts = spec.samples.prompts
    if prompts is None:
        shown = sorted(images, key=lambda image: not image.held_out)
        prompts = default_prompts(model, spec.preset, trigger, [image.caption for image in shown])
    return tuple(put_trigger(prompt, trigger) for prompt in prompts)
