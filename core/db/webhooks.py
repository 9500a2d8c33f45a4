"""The clients' side of webhooks: a job's receiver, the messages to send, and the secrets that sign them."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, ScalarSelect, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db import audit
from core.db.paging import read_page
from core.db.session import read_clock
from core.db.tables import Job, JobEvent, Webhook, WebhookDelivery, WebhookSecret
from core.domain.audit import Action
from core.domain.errors import NotFound, WrongState
from core.domain.events import FINAL_EVENTS, EventType
from core.domain.ids import new_id
from core.domain.outcome import summarize
from core.domain.receivers import Receiver
from core.domain.spec import WebhookSpec
from core.domain.webhooks import ROTATION_SECONDS, TEST_SEQ, TEST_TYPE, DeliveryStatus, make_secret

_JOB = (
    Job.id,
    Job.status,
    Job.model_id,
    Job.dataset_id,
    Job.created_at,
    Job.started_at,
    Job.finished_at,
    Job.attempt,
    Job.result,
    Job.error,
    func.coalesce(Job.spec["metadata"], func.jsonb_build_object()).label("metadata"),
)


def insert_webhook(session: Session, job_id: str, spec: WebhookSpec) -> None:
    """Before the job's first event, so that it is sent as well."""
    receiver = Receiver.parse(spec.url)
    webhook = Webhook(
        job_id=job_id,
        url=spec.url,
        host=f"{receiver.host}:{receiver.port}",
        events=[str(event) for event in spec.events],
        secret=spec.secret.get_secret_value() if spec.secret else None,
    )
    session.add(webhook)
    session.flush()


def select_subscription(job_id: str) -> ScalarSelect[list[Any] | None]:
    """The types of events that the job's receiver is sent; null without one."""
    return select(Webhook.events).where(Webhook.job_id == job_id, Webhook.disabled_at.is_(None)).scalar_subquery()


def enqueue_delivery(session: Session, event: JobEvent) -> None:
    """In the event's own transaction, for a job that subscribes to such events."""
    # The database's current state: the caller's object may not have the job's latest one.
    job = session.execute(select(*_JOB).where(Job.id == event.job_id)).one()
    delivery = WebhookDelivery(
        event_id=event.id,
        job_id=event.job_id,
        seq=event.seq,
        type=event.type,
        status=DeliveryStatus.PENDING,
        body=_write_body(event, job),
    )
    session.add(delivery)
    session.flush()


def list_deliveries(
    session: Session, job_id: str, *, after: str | None = None, limit: int = 20
) -> tuple[list[WebhookDelivery], bool]:
    """In the order of the events; and whether there are more. ``after``: an event's id."""
    query = select(WebhookDelivery).where(WebhookDelivery.job_id == job_id)
    if after is not None:
        query = query.where(WebhookDelivery.seq > _get_delivery(session, job_id, after).seq)
    rows = list(session.execute(query.order_by(WebhookDelivery.seq).limit(limit + 1)).scalars())
    return rows[:limit], len(rows) > limit


def list_recent_deliveries(
    session: Session,
    tenant_id: str,
    *,
    status: DeliveryStatus | None = None,
    after: str | None = None,
    limit: int = 20,
) -> tuple[list[WebhookDelivery], bool]:
    """Of all of the tenant's jobs, newest first; and whether there are more."""
    query = select(WebhookDelivery).join(Job, Job.id == WebhookDelivery.job_id).where(Job.tenant_id == tenant_id)
    if status is not None:
        query = query.where(WebhookDelivery.status == status)
    return read_page(session, query, WebhookDelivery.event_id, after, limit)


def redeliver(session: Session, job_id: str, event_id: str) -> WebhookDelivery:
    """Due at once, with the whole retry table. A worker that is sending it right now loses it. Raises NotFound."""
    delivery = _get_delivery(session, job_id, event_id, lock=True)
    delivery.status, delivery.tries, delivery.lease_until = DeliveryStatus.PENDING, 0, None
    delivery.run_after = read_clock(session)
    session.flush()
    audit.record(session, Action.DELIVERY_REPEATED, event_id)
    return delivery


def send_test(session: Session, job_id: str) -> WebhookDelivery:
    """A message without an event, due at once; it replaces the job's previous one, and a worker that is sending that
    one loses it. Raises WrongState if the job has no receiver, or one that answered 410."""
    webhook = session.get(Webhook, job_id)
    if webhook is None or webhook.disabled_at is not None:
        reason = "has no receiver" if webhook is None else "sends nothing more, for its receiver answered 410"
        raise WrongState(f"Job {job_id} {reason}: create a job with a webhook, and test that.")
    moment, event_id = read_clock(session), new_id("evt")
    data = {"job_id": job_id, "event_id": event_id, "seq": TEST_SEQ}
    body = {"type": TEST_TYPE, "timestamp": _show_time(moment), "data": data}
    values = {
        "event_id": event_id,
        "body": json.dumps(body, separators=(",", ":")),
        "type": TEST_TYPE,
        "status": DeliveryStatus.PENDING,
        "tries": 0,
        "log": [],
        "run_after": moment,
        "created_at": moment,
        "lease_until": None,
        "delivered_at": None,
    }
    made = insert(WebhookDelivery).values(job_id=job_id, seq=TEST_SEQ, **values)
    made = made.on_conflict_do_update(index_elements=["job_id", "seq"], set_=values)
    audit.record(session, Action.DELIVERY_TESTED, event_id)
    delivery: WebhookDelivery = session.execute(
        made.returning(WebhookDelivery), execution_options={"populate_existing": True}
    ).scalar_one()
    return delivery


@dataclass(frozen=True)
class Secrets:
    """A tenant's secrets. For a day after ``secret`` replaced it, ``previous`` signs as well."""

    secret: str = field(repr=False)
    previous: str | None = field(default=None, repr=False)
    previous_until: datetime | None = None

    def list_valid(self) -> tuple[str, ...]:
        return (self.secret,) if self.previous is None else (self.secret, self.previous)


def read_secret(session: Session, tenant_id: str) -> Secrets:
    """Created when first needed."""
    row = session.get(WebhookSecret, tenant_id, populate_existing=True)
    if row is None:
        made = insert(WebhookSecret).values(tenant_id=tenant_id, secret=make_secret())
        session.execute(made.on_conflict_do_nothing())
        row = session.get_one(WebhookSecret, tenant_id, populate_existing=True)
    if row.previous_until is None or row.previous_until < read_clock(session):
        return Secrets(row.secret)
    return Secrets(row.secret, row.previous, row.previous_until)


def rotate_secret(session: Session, tenant_id: str) -> Secrets:
    read_secret(session, tenant_id)
    row = session.get_one(WebhookSecret, tenant_id, with_for_update=True, populate_existing=True)
    row.secret, row.previous = make_secret(), row.secret
    row.previous_until = read_clock(session) + timedelta(seconds=ROTATION_SECONDS)
    session.flush()
    audit.record(session, Action.WEBHOOK_SECRET_ROTATED, tenant_id)
    return Secrets(row.secret, row.previous, row.previous_until)


# --- below: the parts ----------------------------------------------------------------------------------


def _get_delivery(session: Session, job_id: str, event_id: str, *, lock: bool = False) -> WebhookDelivery:
    query = select(WebhookDelivery).where(WebhookDelivery.job_id == job_id, WebhookDelivery.event_id == event_id)
    found = session.execute(query.with_for_update() if lock else query).scalar_one_or_none()
    if found is None:
        raise NotFound(f"Job {job_id} has no delivery {event_id}; GET /jobs/{job_id}/deliveries lists them.")
    return found


def _write_body(event: JobEvent, job: Row[Any]) -> str:
    data: dict[str, Any] = {
        "job_id": event.job_id,
        "event_id": event.id,
        "seq": event.seq,
        "status": job.status,
        "attempt": event.attempt,
        "event": event.data,
    }
    if EventType(event.type) in FINAL_EVENTS:
        data["job"] = _show_job(job)
    body = {"type": event.type, "timestamp": _show_time(event.created_at), "data": data}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def _show_job(job: Row[Any]) -> dict[str, Any]:
    """The fields as ``GET /jobs/{id}`` shows them, without the long ones."""
    url = f"/jobs/{job.id}"
    return {
        "id": job.id,
        "object": "job",
        "status": job.status,
        "model": job.model_id,
        "dataset": job.dataset_id,
        "created_at": _show_time(job.created_at),
        "started_at": _show_time(job.started_at),
        "finished_at": _show_time(job.finished_at),
        "attempt": job.attempt,
        "result": summarize(job.id, job.result) if job.result else None,
        "error": job.error,
        "metadata": job.metadata,
        "urls": {"self": url, "cancel": f"{url}/cancel", "events": f"{url}/events", "adapter": f"{url}/adapter"},
    }


def _show_time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
