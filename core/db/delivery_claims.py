"""The workers' side of webhooks: claim deliveries that are due, and record the result of each attempt.

The fence is the attempt number together with the lease, as for datasets (leases.py): ``False`` means that
this attempt no longer holds the row, and nothing was written.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from core.db.leases import lock_expired
from core.db.session import read_clock
from core.db.tables import Job, Webhook, WebhookDelivery
from core.db.webhooks import read_secret
from core.domain.webhooks import MAX_TRIES, DeliveryStatus

MAX_LOGGED = 20
_DUE = (
    WebhookDelivery.status == DeliveryStatus.PENDING,
    WebhookDelivery.lease_until.is_(None),
    WebhookDelivery.run_after <= func.clock_timestamp(),
)


@dataclass(frozen=True)
class DeliveryClaim:
    """A worker's claim: one event for one receiver, under one attempt. ``secrets``: newest first."""

    event_id: str
    job_id: str
    attempt: int
    tries: int
    url: str = field(repr=False)
    body: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class Try:
    """The log entry of one attempt. ``error`` if there was no response; ``excerpt``: the start of the response."""

    at: datetime
    duration_seconds: float
    status_code: int | None = None
    error: str | None = None
    excerpt: str = ""

    def to_log(self) -> dict[str, Any]:
        return {
            "at": self.at.isoformat(),
            "duration_seconds": round(self.duration_seconds, 3),
            "status_code": self.status_code,
            "error": self.error,
            "excerpt": self.excerpt,
        }


def claim_deliveries(session: Session, *, lease_seconds: float, limit: int, per_host: int) -> list[DeliveryClaim]:
    """Takes the deliveries that have been due longest, at most ``per_host`` for one host, including those under way."""
    chosen = list(session.execute(_choose_due(limit, per_host)).scalars())
    locked = select(WebhookDelivery).where(WebhookDelivery.event_id.in_(chosen), *_DUE)
    locked = locked.order_by(WebhookDelivery.run_after, WebhookDelivery.seq).with_for_update(skip_locked=True)
    return [_claim(session, row, lease_seconds) for row in session.execute(locked).scalars().all()]


def record_delivered(session: Session, claim: DeliveryClaim, made: Try) -> bool:
    row = _hold(session, claim)
    if row is None:
        return False
    _close(row, made)
    row.status, row.delivered_at = DeliveryStatus.DELIVERED, read_clock(session)
    return True


def record_failed(session: Session, claim: DeliveryClaim, made: Try, *, delay_seconds: float | None) -> bool:
    """Schedules a retry after the delay; None: that was the last one."""
    row = _hold(session, claim)
    if row is None:
        return False
    _close(row, made)
    if delay_seconds is None:
        row.status = DeliveryStatus.FAILED
    else:
        row.run_after = read_clock(session) + timedelta(seconds=delay_seconds)
    return True


def record_gone(session: Session, claim: DeliveryClaim, made: Try) -> bool:
    """The receiver refuses further events of this job: its waiting deliveries are dropped too."""
    # First, so that two concurrent responses do not wait for each other's rows.
    session.execute(select(Webhook.job_id).where(Webhook.job_id == claim.job_id).with_for_update(key_share=True))
    if not record_failed(session, claim, made, delay_seconds=None):
        return False
    session.flush()
    session.execute(update(Webhook).where(Webhook.job_id == claim.job_id).values(disabled_at=func.clock_timestamp()))
    others = (WebhookDelivery.job_id == claim.job_id, WebhookDelivery.status == DeliveryStatus.PENDING)
    session.execute(update(WebhookDelivery).where(*others).values(status=DeliveryStatus.CANCELED, lease_until=None))
    return True


def expire_deliveries(session: Session) -> list[WebhookDelivery]:
    """Takes back every delivery whose worker lost its lease; at its last retry it has failed. For the steward."""
    rows = lock_expired(session, WebhookDelivery, DeliveryStatus.PENDING)
    for row in rows:
        _close(row, Try(datetime.now(UTC), duration_seconds=0.0, error="the worker stopped; it may have arrived"))
        if row.tries >= MAX_TRIES:
            row.status = DeliveryStatus.FAILED
    session.flush()
    return rows


def count_due_deliveries(session: Session) -> int:
    return session.execute(select(func.count()).select_from(WebhookDelivery).where(*_DUE)).scalar_one()


def _choose_due(limit: int, per_host: int) -> Any:
    """Ids. A slow host does not hold up the others: each has its own places."""
    in_flight = (
        select(Webhook.host, func.count().label("number"))
        .join(WebhookDelivery, WebhookDelivery.job_id == Webhook.job_id)
        .where(WebhookDelivery.status == DeliveryStatus.PENDING, WebhookDelivery.lease_until.is_not(None))
        .group_by(Webhook.host)
        .subquery()
    )
    order = (WebhookDelivery.run_after, WebhookDelivery.seq)
    place = func.row_number().over(partition_by=Webhook.host, order_by=order).label("place")
    due = (
        select(WebhookDelivery.event_id, WebhookDelivery.run_after, WebhookDelivery.seq, Webhook.host, place)
        .join(Webhook, Webhook.job_id == WebhookDelivery.job_id)
        .where(*_DUE)
        .subquery()
    )
    return (
        select(due.c.event_id)
        .outerjoin(in_flight, in_flight.c.host == due.c.host)
        .where(due.c.place + func.coalesce(in_flight.c.number, 0) <= per_host)
        .order_by(due.c.run_after, due.c.seq)
        .limit(limit)
    )


def _claim(session: Session, row: WebhookDelivery, lease_seconds: float) -> DeliveryClaim:
    row.attempt, row.tries = row.attempt + 1, row.tries + 1
    row.lease_until = read_clock(session) + timedelta(seconds=lease_seconds)
    url, secret, tenant_id = session.execute(
        select(Webhook.url, Webhook.secret, Job.tenant_id)
        .join(Job, Job.id == Webhook.job_id)
        .where(Webhook.job_id == row.job_id)
    ).one()
    secrets = (secret,) if secret is not None else read_secret(session, tenant_id).list_valid()
    return DeliveryClaim(row.event_id, row.job_id, row.attempt, row.tries, url, row.body, secrets)


def _hold(session: Session, claim: DeliveryClaim) -> WebhookDelivery | None:
    """Locks the row for this transaction, if the claim still stands."""
    held = select(WebhookDelivery).where(
        WebhookDelivery.event_id == claim.event_id,
        WebhookDelivery.attempt == claim.attempt,
        WebhookDelivery.status == DeliveryStatus.PENDING,
        WebhookDelivery.lease_until.is_not(None),
    )
    locked = held.with_for_update().execution_options(populate_existing=True)
    return session.execute(locked).scalar_one_or_none()


def _close(row: WebhookDelivery, made: Try) -> None:
    row.lease_until = None
    row.log = [*row.log, made.to_log()][-MAX_LOGGED:]
