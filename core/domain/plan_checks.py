"""Checks of a plan that no single field of the spec shows: it is too large for any worker, would certainly fail after
the queue, has options without effect, or exceeds the tenant's limits or the available devices. Each raises
InvalidSpec with the field to change. (The requirements of an init adapter are in init_adapter.py.)"""

from collections.abc import Set

from core.domain.dataset import DatasetManifest
from core.domain.errors import InvalidSpec
from core.domain.estimate import count_least_memory
from core.domain.limits import Limits
from core.domain.memory import DeviceKind
from core.domain.memory_choices import find_change, fits, predict_least
from core.domain.model import ModelInfo
from core.domain.plan import TrainPlan
from core.domain.spec import CUDA_OPTIMIZERS, TrainingSpec
from core.domain.tokens import count_least_tokens

MAX_PIXELS_PER_STEP = 64 * 1024 * 1024
POLYNOMIAL_END = 1e-7
"""The final rate of diffusers' polynomial schedule."""


def check_plan(spec: TrainingSpec, plan: TrainPlan) -> None:
    _check_work(plan)
    _check_trigger(plan)
    _check_prior(spec, plan)
    _check_schedule(plan)
    _check_effects(spec, plan)


def _check_work(plan: TrainPlan) -> None:
    sizes = {"/batch_size": plan.batch_size, "/loss/prior_preservation/batch_size": plan.class_images_per_batch}
    for field, size in sizes.items():
        if size * plan.resolution**2 > MAX_PIXELS_PER_STEP:
            raise InvalidSpec(
                f"batch_size {size} at resolution {plan.resolution} is too large for any worker: "
                "lower one of them, and use gradient_accumulation for a larger effective batch.",
                {field: ["too large for this resolution"]},
            )
    if not any(image.caption for image in plan.images):
        raise InvalidSpec(
            "No image has a caption and there is no trigger, so no prompt could invoke the concept: set trigger.",
            {"/trigger": ["needed, because the dataset has no captions"]},
        )


def _check_trigger(plan: TrainPlan) -> None:
    """It is never cut, so all of it must be encoded. Only the trainer knows whether it has still more tokens."""
    least, most = count_least_tokens(plan.trigger), plan.max_token_length
    if least > most:
        raise InvalidSpec(
            f"The trigger has {least} tokens or more, and captions.max_token_length is {most}: give a shorter one.",
            {"/trigger": [f"is longer than {most} tokens"]},
        )


def _check_prior(spec: TrainingSpec, plan: TrainPlan) -> None:
    asked = spec.loss.prior_preservation
    if asked.num_images and not plan.prior_num_images:
        raise InvalidSpec(
            f"Prior preservation needs a class_prompt: the model {plan.model} has no prompts of its own for it.",
            {"/loss/prior_preservation/class_prompt": ["needed for this model"]},
        )
    tuned = asked.class_prompt or asked.batch_size or asked.weight
    if asked.num_images is None and tuned and not plan.prior_num_images:
        detail = f"Prior preservation needs num_images: the model {plan.model} has no class images of its own."
        raise InvalidSpec(detail, {"/loss/prior_preservation/num_images": ["needed for this model"]})


def _check_schedule(plan: TrainPlan) -> None:
    """A rate that rises until the end never reaches the requested value; and diffusers' polynomial schedule falls over
    the steps after warm-up, from a rate above its end."""
    if plan.warmup_steps >= plan.steps:
        must = f"must be less than the {plan.steps} steps, or the learning rate is never reached"
        raise InvalidSpec(
            f"schedule.warmup_steps is {plan.warmup_steps}: it {must}. A tenth of the steps is usual.",
            {"/schedule/warmup_steps": [must]},
        )
    if plan.schedule == "polynomial" and plan.learning_rate <= POLYNOMIAL_END:
        must = f"must be above {POLYNOMIAL_END}, where a polynomial schedule ends"
        raise InvalidSpec(f"optimizer.learning_rate {must}.", {"/optimizer/learning_rate": [must]})


def _check_effects(spec: TrainingSpec, plan: TrainPlan) -> None:
    if plan.patience is not None and not plan.held_out_images:
        raise InvalidSpec(
            "Early stopping needs held-out images, and this set is too small for them or validation.fraction is 0: "
            "set a fraction, or leave patience out.",
            {"/validation/early_stopping/patience": ["needs held-out images"]},
        )
    if plan.checkpoint_adapters == "last" and not plan.sample_steps:
        raise InvalidSpec(
            "The adapters of steps with samples are kept, and samples are turned off: set samples.prompts, or leave "
            "checkpoints.adapters out.",
            {"/checkpoints/adapters": ["needs samples"]},
        )
    text = spec.text_encoder
    if not text.train and (text.rank or text.learning_rate):
        detail = "text_encoder.rank and learning_rate need trained text encoders: set text_encoder.train."
        raise InvalidSpec(detail, {"/text_encoder/train": ["needed for its rank and learning_rate"]})


def check_dataset_size(manifest: DatasetManifest, limits: Limits) -> None:
    """Before the plan is resolved, which takes a while for a large set."""
    num_images, limit = len(manifest.images), limits.images_per_dataset
    if limit is not None and num_images > limit:
        raise _exceed({"/dataset": (num_images, limit)})


def check_limits(plan: TrainPlan, limits: Limits) -> None:
    planned = (
        ("/adapter/rank", plan.rank, limits.rank),
        ("/text_encoder/rank", plan.text_encoder_rank or 0, limits.rank),
        ("/resolution", plan.resolution, limits.resolution),
    )
    excess = {field: (value, limit) for field, value, limit in planned if limit is not None and value > limit}
    if excess:
        raise _exceed(excess)


def _exceed(excess: dict[str, tuple[int, int]]) -> InvalidSpec:
    messages = {field: f"is {value:,}, and your quota allows {limit:,}" for field, (value, limit) in excess.items()}
    named = "; ".join(f"{field} {message}" for field, message in messages.items())
    return InvalidSpec(
        f"{named}. Ask for less, or ask the operator for a larger quota.",
        {field: [message] for field, message in messages.items()},
    )


def check_devices(plan: TrainPlan, model: ModelInfo, largest_memory: int | None, kinds: Set[str]) -> None:
    """``largest_memory``: bytes of the largest device, None if unknown. ``kinds`` of devices, such as `cpu` and `cuda`;
    empty if no worker has sent a heartbeat."""
    if plan.optimizer in CUDA_OPTIMIZERS and kinds and "cuda" not in kinds:
        message = f"{plan.optimizer} runs only on CUDA devices, and no worker here has one"
        raise InvalidSpec(f"{message}: set optimizer.name to adamw.", {"/optimizer/name": [message]})
    if largest_memory is None:
        return
    _check_weights(plan, model, largest_memory)
    if model.memory is not None:
        _check_memory(plan, model, largest_memory, "cuda" if "cuda" in kinds else "cpu")


def _check_weights(plan: TrainPlan, model: ModelInfo, largest_memory: int) -> None:
    """What no prediction is needed for."""
    needed = count_least_memory(plan, model)
    if needed <= largest_memory:
        return
    message = f"takes at least {needed:,} bytes of memory, and the largest device here has {largest_memory:,}"
    bare = count_least_memory(plan.model_copy(update={"rank": 1, "text_encoder_rank": None}), model)
    field, advice = ("/model", "choose a smaller base") if bare > largest_memory else ("/adapter/rank", "lower it")
    raise InvalidSpec(f"{field} {message}: {advice}, or ask the operator for a larger device.", {field: [message]})


def _check_memory(plan: TrainPlan, model: ModelInfo, largest_memory: int, kind: DeviceKind) -> None:
    """Workers save what they can by themselves: smaller passes, and checkpointing unless the plan forbids it."""
    if fits(plan, model, kind, largest_memory):
        return
    needed = predict_least(plan, model, kind)
    message = f"the plan takes about {needed:,} bytes of memory, and the largest device here has {largest_memory:,}"
    change = find_change(plan, model, kind, largest_memory)
    field, advice = ("/model", "choose a smaller base") if change is None else (change.field, change.advice)
    raise InvalidSpec(f"{field}: {message}: {advice}, or ask the operator for a larger device.", {field: [message]})
