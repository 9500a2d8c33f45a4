"""Generations, as their owners see them. The workers' side is in generation_claims.py."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db import audit
from core.db.own_rows import get_own
from core.db.paging import read_page
from core.db.tables import Generation
from core.domain.audit import Action
from core.domain.counts import counted
from core.domain.errors import QuotaExceeded, WrongState
from core.domain.generation import GenerationPlan
from core.domain.ids import new_id

MAX_QUEUED = 20
"""Of a tenant: others' are drawn behind them."""


def insert_generation(session: Session, tenant_id: str, spec: dict[str, Any], plan: GenerationPlan) -> Generation:
    """The caller holds the tenant's limits (quotas.lock_limits). Raises QuotaExceeded."""
    mine = (Generation.tenant_id == tenant_id, Generation.status == Generation.CHECKING)
    queued = session.execute(select(func.count(Generation.id)).where(*mine)).scalar_one()
    if queued >= MAX_QUEUED:
        raise QuotaExceeded(f"{counted(queued, 'generation')} are waiting. Wait for one to end, or cancel one.")
    generation = Generation(
        id=new_id("gen"),
        tenant_id=tenant_id,
        model_id=plan.model,
        status=Generation.CHECKING,
        spec=spec,
        plan=plan.model_dump(mode="json"),
    )
    session.add(generation)
    session.flush()
    session.refresh(generation)
    audit.record(session, Action.GENERATION_CREATED, generation.id)
    return generation


def get_generation(session: Session, tenant_id: str, generation_id: str, *, lock: bool = False) -> Generation:
    """Raises NotFound, also for another tenant's. ``lock`` holds the row until the transaction ends."""
    return get_own(session, Generation, "generation", tenant_id, generation_id, lock=lock)


def list_generations(
    session: Session, tenant_id: str, *, after: str | None = None, limit: int = 20
) -> tuple[list[Generation], bool]:
    """Newest first, by id; and whether there are more."""
    query = select(Generation).where(Generation.tenant_id == tenant_id)
    return read_page(session, query, Generation.id, after, limit)


def cancel_generation(session: Session, tenant_id: str, generation_id: str) -> Generation:
    """At once: its worker notices that its lease is lost. The drawn images stay. Raises NotFound, WrongState."""
    generation = get_generation(session, tenant_id, generation_id, lock=True)
    if generation.status != Generation.CHECKING:
        raise WrongState(f"Generation {generation_id} has ended already, as {generation.status}.")
    generation.status, generation.lease_until, generation.waiting_reason = "canceled", None, None
    generation.ended_at = session.execute(select(func.clock_timestamp())).scalar_one()
    session.flush()
    audit.record(session, Action.GENERATION_CANCELED, generation_id)
    return generation


def delete_generation(session: Session, tenant_id: str, generation_id: str) -> None:
    """Ended or not; the caller then deletes its prefix in storage. Raises NotFound."""
    session.delete(get_generation(session, tenant_id, generation_id, lock=True))
    audit.record(session, Action.GENERATION_DELETED, generation_id)
