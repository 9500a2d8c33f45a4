"""Figures for monitoring."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Float, cast, func, select
from sqlalchemy.orm import Session

from core.db.row_security import act_for
from core.db.tables import Job, Tenant, WebhookDelivery
from core.db.usage import count_steps, sum_stored_bytes
from core.domain.states import JobStatus
from core.domain.webhooks import DeliveryStatus


@dataclass(frozen=True)
class TenantGauges:
    """``oldest_queued_seconds``: the age of the oldest queued job; 0 if none is queued."""

    jobs: Mapping[JobStatus, int]
    oldest_queued_seconds: float
    pending_deliveries: int
    stored_bytes: int
    steps_today: int


def list_tenant_ids(session: Session) -> list[str]:
    """The tenants that the transaction may see: all of them for the operator, else its own."""
    return list(session.execute(select(Tenant.id).order_by(Tenant.id)).scalars())


def measure_tenant(session: Session, tenant_id: str) -> TenantGauges:
    """The transaction acts for the tenant from here on."""
    act_for(session, tenant_id)
    own = Job.tenant_id == tenant_id
    counted = session.execute(select(Job.status, func.count()).where(own).group_by(Job.status))
    counts = {JobStatus(status): count for status, count in counted}
    age = cast(func.extract("epoch", func.clock_timestamp() - func.min(Job.created_at)), Float)
    oldest = session.execute(select(age).where(own, Job.status == JobStatus.QUEUED)).scalar_one()
    return TenantGauges(
        jobs={status: counts.get(status, 0) for status in JobStatus},
        oldest_queued_seconds=max(0.0, oldest or 0.0),
        pending_deliveries=_count_pending_deliveries(session, tenant_id),
        stored_bytes=sum_stored_bytes(session, tenant_id),
        steps_today=count_steps(session, tenant_id),
    )


def _count_pending_deliveries(session: Session, tenant_id: str) -> int:
    deliveries = select(func.count()).select_from(WebhookDelivery).join(Job, Job.id == WebhookDelivery.job_id)
    pending = WebhookDelivery.status == DeliveryStatus.PENDING
    return int(session.execute(deliveries.where(Job.tenant_id == tenant_id, pending)).scalar_one())
