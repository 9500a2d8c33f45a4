"""Captionings, as their owners see them. The workers' side is in captioning_claims.py."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db import audit
from core.db.own_rows import get_own
from core.db.paging import read_page
from core.db.tables import Captioning
from core.domain.audit import Action
from core.domain.captioning import CaptioningPlan
from core.domain.counts import counted
from core.domain.errors import QuotaExceeded, WrongState
from core.domain.ids import new_id

MAX_QUEUED = 20
"""Of a tenant: others' are made behind them."""


def insert_captioning(
    session: Session, tenant_id: str, dataset_id: str, spec: dict[str, Any], plan: CaptioningPlan, *, num_images: int
) -> Captioning:
    """The caller holds the tenant's limits (quotas.lock_limits). Raises QuotaExceeded."""
    mine = (Captioning.tenant_id == tenant_id, Captioning.status == Captioning.CHECKING)
    queued = session.execute(select(func.count(Captioning.id)).where(*mine)).scalar_one()
    if queued >= MAX_QUEUED:
        raise QuotaExceeded(f"{counted(queued, 'captioning')} are waiting. Wait for one to end, or cancel one.")
    captioning = Captioning(
        id=new_id("cap"),
        tenant_id=tenant_id,
        dataset_id=dataset_id,
        captioner_id=plan.captioner,
        status=Captioning.CHECKING,
        spec=spec,
        plan=plan.model_dump(mode="json"),
        num_images=num_images,
    )
    session.add(captioning)
    session.flush()
    session.refresh(captioning)
    audit.record(session, Action.CAPTIONING_CREATED, captioning.id)
    return captioning


def get_captioning(session: Session, tenant_id: str, captioning_id: str, *, lock: bool = False) -> Captioning:
    """Raises NotFound, also for another tenant's. ``lock`` holds the row until the transaction ends."""
    return get_own(session, Captioning, "captioning", tenant_id, captioning_id, lock=lock)


def list_captionings(
    session: Session, tenant_id: str, *, dataset_id: str | None = None, after: str | None = None, limit: int = 20
) -> tuple[list[Captioning], bool]:
    """Newest first, by id; and whether there are more."""
    query = select(Captioning).where(Captioning.tenant_id == tenant_id)
    if dataset_id is not None:
        query = query.where(Captioning.dataset_id == dataset_id)
    return read_page(session, query, Captioning.id, after, limit)


def cancel_captioning(session: Session, tenant_id: str, captioning_id: str) -> Captioning:
    """At once: its worker notices that its lease is lost. What it wrote is kept for another captioning. Raises
    NotFound, WrongState."""
    captioning = get_captioning(session, tenant_id, captioning_id, lock=True)
    if captioning.status != Captioning.CHECKING:
        raise WrongState(f"Captioning {captioning_id} has ended already, as {captioning.status}.")
    captioning.status, captioning.lease_until, captioning.waiting_reason = "canceled", None, None
    captioning.ended_at = session.execute(select(func.clock_timestamp())).scalar_one()
    session.flush()
    audit.record(session, Action.CAPTIONING_CANCELED, captioning_id)
    return captioning


def delete_captioning(session: Session, tenant_id: str, captioning_id: str) -> None:
    """Ended or not; its revision stays. Raises NotFound."""
    session.delete(get_captioning(session, tenant_id, captioning_id, lock=True))
    audit.record(session, Action.CAPTIONING_DELETED, captioning_id)
