"""Lists and repeats the deliveries of a tenant's jobs, and refuses receivers that are never called."""

from sqlalchemy.orm import Session

from core.db import jobs, webhooks
from core.db.tables import WebhookDelivery
from core.domain.errors import UrlForbidden
from core.domain.receivers import AllowList, Receiver
from core.domain.spec import WebhookSpec


def refuse_forbidden(allow: AllowList, webhook: WebhookSpec | None) -> None:
    """As far as can be said without resolving a name; the rest is checked at every delivery. Raises UrlForbidden."""
    if webhook is None:
        return
    if (refusal := allow.find_refusal_unresolved(Receiver.parse(webhook.url))) is not None:
        advice = "Name a receiver on the public internet, or ask the operator to admit this one"
        raise UrlForbidden(
            f"/webhook/url: {refusal}. {advice} (ATELIER_WEBHOOK_ALLOW).", {"/webhook/url": [f"{refusal}, not called"]}
        )


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
