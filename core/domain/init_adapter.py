"""The adapter that a training starts from: the plan's values from it, and its requirements."""

from dataclasses import dataclass
from typing import get_args

from core.domain.errors import InvalidSpec
from core.domain.plan import InitAdapter, TrainPlan
from core.domain.spec import Targets, TrainingSpec


@dataclass(frozen=True)
class InitAdapterSource:
    """``targets`` and ``text_encoder_rank`` are those of the job that trained it, and None for an imported file, which
    the trainer examines."""

    file: InitAdapter
    type: str | None = None
    rank: int | None = None
    targets: Targets | None = None
    text_encoder_rank: int | None = None


def fill_defaults(spec: TrainingSpec, init: InitAdapterSource) -> TrainingSpec:
    """The adapter's training options, for those that the spec leaves open."""
    wanted, text = spec.adapter, spec.text_encoder
    changes = {
        "type": wanted.type or init.type,
        "rank": wanted.rank or init.rank,
        "targets": wanted.targets or init.targets,
    }
    if init.text_encoder_rank is not None and "train" not in text.model_fields_set:
        text = text.model_copy(update={"train": True, "rank": text.rank or init.text_encoder_rank})
    return spec.model_copy(update={"adapter": wanted.model_copy(update=changes), "text_encoder": text})


def check_init_adapter(plan: TrainPlan, init: InitAdapterSource) -> None:
    """Mismatches that the trainer would refuse only after the queue. Raises InvalidSpec."""
    if init.rank is not None and plan.rank < init.rank:
        raise _refuse(init, "/adapter/rank", f"{init.rank} or more", f"; it is {plan.rank}")
    if init.type is not None and (plan.adapter_type == "dora") != (init.type == "dora"):
        raise _refuse(init, "/adapter/type", "dora" if init.type == "dora" else "lora or locon")
    if init.type == "locon" and plan.adapter_type != "locon":
        raise _refuse(init, "/adapter/type", "locon")
    order = get_args(Targets)
    if init.targets is not None and order.index(plan.targets) < order.index(init.targets):
        raise _refuse(init, "/adapter/targets", init.targets)
    if init.text_encoder_rank is None:
        return
    if plan.text_encoder_rank is None:
        raise _refuse(init, "/text_encoder/train", "true")
    if plan.text_encoder_rank < init.text_encoder_rank:
        raise _refuse(init, "/text_encoder/rank", f"{init.text_encoder_rank} or more")


def _refuse(init: InitAdapterSource, field: str, wanted: str, found: str = "") -> InvalidSpec:
    message = f"must be {wanted}, as for {init.file.id}"
    return InvalidSpec(f"{field.removeprefix('/').replace('/', '.')} {message}{found}.", {field: [message]})
