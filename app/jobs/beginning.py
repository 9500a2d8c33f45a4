"""The adapter that a job starts from: what the job takes over from it, and what it cannot be made from."""

from dataclasses import dataclass
from typing import get_args

from sqlalchemy.orm import Session

from core.db import adapters, jobs
from core.db.tables import Adapter
from core.domain.errors import InvalidSpec, NotFound
from core.domain.model import ModelInfo
from core.domain.plan import InitAdapter, TrainPlan
from core.domain.spec import Targets, TrainingSpec


@dataclass(frozen=True)
class Beginning:
    """``targets`` and ``text_rank`` are those of the job that made it; of an imported file the trainer looks itself."""

    adapter: Adapter
    targets: Targets | None = None
    text_rank: int | None = None

    @property
    def file(self) -> InitAdapter:
        kohya = self.adapter.files["kohya"]
        return InitAdapter(id=self.adapter.id, key=kohya["key"], sha256=kohya["sha256"])

    def complete(self, spec: TrainingSpec) -> TrainingSpec:
        """What the adapter was trained with, where the spec leaves it open."""
        wanted, text = spec.adapter, spec.text_encoder
        changes = {
            "type": wanted.type or self.adapter.type,
            "rank": wanted.rank or self.adapter.rank,
            "targets": wanted.targets or self.targets,
        }
        if self.text_rank is not None and "train" not in text.model_fields_set:
            text = text.model_copy(update={"train": True, "rank": text.rank or self.text_rank})
        return spec.model_copy(update={"adapter": wanted.model_copy(update=changes), "text_encoder": text})

    def refuse_misfit(self, plan: TrainPlan) -> None:
        """What the trainer would refuse only after the queue. Raises InvalidSpec."""
        adapter = self.adapter
        if adapter.rank is not None and plan.rank < adapter.rank:
            raise self._refuse("/adapter/rank", f"{adapter.rank} or more", f"; it is {plan.rank}")
        if (plan.adapter_type == "dora") != (adapter.type == "dora"):
            raise self._refuse("/adapter/type", "dora" if adapter.type == "dora" else "lora or locon")
        if adapter.type == "locon" and plan.adapter_type != "locon":
            raise self._refuse("/adapter/type", "locon")
        order = get_args(Targets)
        if self.targets is not None and order.index(plan.targets) < order.index(self.targets):
            raise self._refuse("/adapter/targets", self.targets)
        if self.text_rank is None:
            return
        if plan.text_encoder_rank is None:
            raise self._refuse("/text_encoder/train", "true")
        if plan.text_encoder_rank < self.text_rank:
            raise self._refuse("/text_encoder/rank", f"{self.text_rank} or more")

    def _refuse(self, field: str, wanted: str, found: str = "") -> InvalidSpec:
        told = f"must be {wanted}, as {self.adapter.id} has it"
        return InvalidSpec(f"{field.removeprefix('/').replace('/', '.')} {told}{found}.", {field: [told]})


def find_beginning(session: Session, tenant_id: str, adapter_id: str, info: ModelInfo) -> Beginning:
    """Raises InvalidSpec."""
    try:
        adapter = adapters.get_adapter(session, tenant_id, adapter_id)
    except NotFound:
        raise refuse_adapter(f"There is no adapter {adapter_id[:80]}; GET /adapters lists them.") from None
    if adapter.status != "ready":
        advice = "wait until it is ready" if adapter.status == "checking" else "choose another"
        raise refuse_adapter(f"Adapter {adapter_id} is {adapter.status}: {advice}.")
    if adapter.family != info.family:
        raise refuse_adapter(
            f"Adapter {adapter_id} is for {adapter.family}, and the model {info.id} is {info.family}: choose an "
            f"adapter of that family, or the model {adapter.model_id}."
        )
    if adapter.job_id is None:
        return Beginning(adapter)
    outline = jobs.get_job(session, tenant_id, adapter.job_id).outline
    return Beginning(adapter, outline.get("targets"), outline.get("text_encoder_rank"))


def refuse_adapter(detail: str) -> InvalidSpec:
    return InvalidSpec(detail, {"/init_adapter": [detail]})
