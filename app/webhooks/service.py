"""Lists, repeats and tests the deliveries of a tenant's jobs."""

from sqlalchemy.orm import Session

from core.db import jobs, webhooks
from core.db.tables import WebhookDelivery


def list_deliveries(
    session: Session, tenant_id: str, job_id: str, *, after: str | None, limit: int
) -> tuple[list[WebhookDelivery], bool]:
    """Raises NotFound."""
    jobs.get_job(session, tenant_id, job_id)
    return webhooks.list_deliveries(session, job_id, after=after, limit=limit)


def redeliver(session: Session, tenant_id: str, job_id: str, delivery_id: str) -> WebhookDelivery:
    """Raises NotFound."""
    jobs.get_job(session, tenant_id, job_id)
    return webhooks.redeliver(session, job_id, delivery_id)


def send_test(session: Session, tenant_id: str, job_id: str) -> WebhookDelivery:
    """Raises NotFound, WrongState."""
    jobs.get_job(session, tenant_id, job_id)
    return webhooks.send_test(session, job_id)
