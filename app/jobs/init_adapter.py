"""Finds the adapter that a job starts from."""

from sqlalchemy.orm import Session

from core.db import adapters, jobs
from core.domain.errors import InvalidSpec, NotFound
from core.domain.init_adapter import InitAdapterSource
from core.domain.model import ModelInfo
from core.domain.plan import InitAdapter
from core.domain.states import AdapterStatus


def find_init_adapter(session: Session, tenant_id: str, adapter_id: str, info: ModelInfo) -> InitAdapterSource:
    """Raises InvalidSpec."""
    try:
        adapter = adapters.get_adapter(session, tenant_id, adapter_id)
    except NotFound:
        raise refuse_adapter(f"There is no adapter {adapter_id[:80]}; GET /adapters lists them.") from None
    if adapter.status != AdapterStatus.READY:
        advice = "wait until it is ready" if adapter.status == AdapterStatus.CHECKING else "choose another"
        raise refuse_adapter(f"Adapter {adapter_id} is {adapter.status}: {advice}.")
    if adapter.family != info.family:
        raise refuse_adapter(
            f"Adapter {adapter_id} is for {adapter.family}, and the model {info.id} is {info.family}: choose an "
            f"adapter of that family, or the model {adapter.model_id}."
        )
    kohya = adapter.files["kohya"]
    file = InitAdapter(id=adapter.id, key=kohya["key"], sha256=kohya["sha256"])
    if adapter.job_id is None:
        return InitAdapterSource(file, adapter.type, adapter.rank)
    outline = jobs.get_job(session, tenant_id, adapter.job_id).outline
    return InitAdapterSource(file, adapter.type, adapter.rank, outline.get("targets"), outline.get("text_encoder_rank"))


def refuse_adapter(detail: str) -> InvalidSpec:
    return InvalidSpec(detail, {"/init_adapter": [detail]})
