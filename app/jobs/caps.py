"""A tenant's caps on one job: what a spec leaves open is chosen within them, what it asks beyond them is refused."""

from collections.abc import Callable, Set

from core.domain.errors import InvalidSpec
from core.domain.estimate import count_least_memory
from core.domain.limits import Limits
from core.domain.model import ModelInfo
from core.domain.plan import TrainPlan
from core.domain.spec import CUDA_OPTIMIZERS, TrainingSpec


def plan_within(
    resolve: Callable[[TrainingSpec], TrainPlan], spec: TrainingSpec, model: ModelInfo, limits: Limits
) -> TrainPlan:
    """Raises InvalidSpec."""
    plan = resolve(spec)
    narrowed = narrow(spec, plan, model, limits)
    if narrowed != spec:
        plan = resolve(narrowed)
    refuse_excess(plan, limits)
    return plan


def narrow(spec: TrainingSpec, plan: TrainPlan, model: ModelInfo, limits: Limits) -> TrainingSpec:
    """Rank and resolution as the caps have them, where the spec names none and the plan's choice is above."""
    changes: dict[str, object] = {}
    if spec.adapter.rank is None and limits.rank is not None and plan.rank > limits.rank:
        changes["adapter"] = spec.adapter.model_copy(update={"rank": limits.rank})
    if spec.resolution is None and limits.resolution is not None and plan.resolution > limits.resolution:
        fitting = limits.resolution // model.resolution_step * model.resolution_step
        if 2 * fitting >= model.resolution:  # below, the base has nothing to learn with: the excess is told
            changes["resolution"] = fitting
    return spec.model_copy(update=changes)


def refuse_excess(plan: TrainPlan, limits: Limits) -> None:
    asked = (
        ("/adapter/rank", plan.rank, limits.rank),
        ("/text_encoder/rank", plan.text_encoder_rank or 0, limits.rank),
        ("/resolution", plan.resolution, limits.resolution),
    )
    refuse({pointer: (value, cap) for pointer, value, cap in asked if cap is not None and value > cap})


def refuse_large_set(num_images: int, limits: Limits) -> None:
    """Raises InvalidSpec."""
    cap = limits.images_per_dataset
    if cap is not None and num_images > cap:
        refuse({"/dataset": (num_images, cap)})


def refuse_unfitting(plan: TrainPlan, model: ModelInfo, largest_memory: int | None) -> None:
    """``largest_memory``: bytes of the largest device there is, where that is known. Raises InvalidSpec for what would
    fail on each of them."""
    needed = count_least_memory(plan, model)
    if largest_memory is None or needed <= largest_memory:
        return
    told = f"takes {needed:,} bytes of memory at the least, and the largest device here has {largest_memory:,}"
    bare = count_least_memory(plan.model_copy(update={"rank": 1, "text_encoder_rank": None}), model)
    pointer, advice = ("/model", "choose a smaller base") if bare > largest_memory else ("/adapter/rank", "lower it")
    raise InvalidSpec(f"{pointer} {told}: {advice}, or ask the operator for a larger device.", {pointer: [told]})


def refuse_unrunnable(plan: TrainPlan, devices: Set[str]) -> None:
    """``devices``: the kinds that there are, such as `cpu` and `cuda`; empty where no worker was heard of. Raises
    InvalidSpec for an optimizer that runs on none of them."""
    if plan.optimizer not in CUDA_OPTIMIZERS or not devices or "cuda" in devices:
        return
    told = f"{plan.optimizer} runs on CUDA devices alone, and no worker here has one"
    raise InvalidSpec(f"{told}: set optimizer.name to adamw.", {"/optimizer/name": [told]})


def refuse(excess: dict[str, tuple[int, int]]) -> None:
    if not excess:
        return
    told = {pointer: f"is {value:,}, and your quota allows {cap:,}" for pointer, (value, cap) in excess.items()}
    named = "; ".join(f"{pointer} {message}" for pointer, message in told.items())
    raise InvalidSpec(
        f"{named}. Ask for less, or the operator for a larger quota.",
        {pointer: [message] for pointer, message in told.items()},
    )
