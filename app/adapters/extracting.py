"""Requests for an adapter of the difference between two bases."""

from sqlalchemy.orm import Session

from app.adapters.schemas import AdapterExtraction
from core.db import adapter_merges, models, quotas
from core.db.tables import Adapter
from core.domain.adapter_merge import Merge, MergeSource
from core.domain.errors import InvalidRequest, NotFound, WrongState
from core.domain.model import ModelInfo
from core.settings import Settings

KIND = "locon/all"
"""What is extracted: every layer that an adapter can change."""
NUM_FILES, BYTES_PER_WEIGHT = 2, 2


def insert(session: Session, settings: Settings, tenant_id: str, asked: AdapterExtraction) -> Adapter:
    """Raises InvalidRequest, NotFound, WrongState, QuotaExceeded."""
    limits = quotas.lock_limits(session, tenant_id, settings.default_limits)
    base, tuned = (_find(session, getattr(asked, field), f"/{field}") for field in ("model", "tuned"))
    if base.sha256 == tuned.sha256:
        raise _refuse("/tuned", f"the base {tuned.id} has the same weights as {base.id}: there is nothing to extract")
    if (base.family, base.num_parameters) != (tuned.family, tuned.num_parameters):
        raise _refuse("/tuned", f"{tuned.id} is not of the size and family of {base.id}: it was not tuned from it")
    if limits.rank is not None and asked.rank > limits.rank:
        raise _refuse("/rank", f"your limit is {limits.rank}: lower it")
    weights = asked.rank * sum(dims for kind, dims in base.adapter_dims.items() if kind in (KIND, "text_encoder/all"))
    if (size := weights * BYTES_PER_WEIGHT) > settings.max_adapter_bytes:
        raise _refuse("/rank", f"gives a file of {size:,} bytes; the limit is {settings.max_adapter_bytes:,}: lower it")
    source = MergeSource(id=tuned.id, name=tuned.id, weight=1.0, sha256=tuned.sha256)
    merge = Merge(method="extract", rank=asked.rank, sources=(source,), expected_bytes=NUM_FILES * size)
    adapter = adapter_merges.insert_extraction(
        session,
        tenant_id,
        base,
        merge,
        name=asked.name or tuned.id,
        trigger=asked.trigger or "",
        tags=asked.tags,
    )
    quotas.check_storage(session, tenant_id, limits)
    return adapter


def _find(session: Session, model_id: str, pointer: str) -> ModelInfo:
    try:
        return models.read_card(models.get_model(session, model_id))
    except (NotFound, WrongState) as error:
        raise type(error)(error.detail, {pointer: [error.detail]}) from None


def _refuse(pointer: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{message[0].upper()}{message[1:]}.", {pointer: [message]})
