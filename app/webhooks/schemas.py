"""Deliveries and secrets as the API shows them."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from app.jobs.examples import JOB_ID, TIME
from app.jobs.schemas import example
from core.db.tables import WebhookDelivery
from core.domain.events import EventType
from core.domain.webhooks import TEST_TYPE, DeliveryStatus

_TRY: dict[str, Any] = {
    "at": TIME,
    "duration_seconds": 0.084,
    "status_code": 503,
    "error": None,
    "excerpt": "Service Unavailable",
}
_DELIVERY: dict[str, Any] = {
    "id": "evt_01j9z3k8m4x7v2q5w6e8r9t0yb",
    "object": "delivery",
    "job": JOB_ID,
    "seq": 2,
    "type": "job.running",
    "status": "delivered",
    "attempts": [_TRY, {**_TRY, "at": "2026-01-31T12:00:05Z", "status_code": 204, "excerpt": ""}],
    "next_attempt_at": None,
    "created_at": TIME,
    "delivered_at": "2026-01-31T12:00:05Z",
}
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the example of the Standard Webhooks


class AttemptOut(BaseModel):
    """One attempt. ``error`` says why there was no response; ``excerpt`` is the start of the response's body."""

    model_config = example(_TRY)

    at: datetime
    duration_seconds: float
    status_code: int | None
    error: str | None
    excerpt: str


class DeliveryOut(BaseModel):
    """One event for the job's receiver. ``id`` is the event's id, sent as ``webhook-id`` in every attempt."""

    model_config = example(_DELIVERY)

    id: str
    object: Literal["delivery"] = "delivery"
    job: str
    seq: int
    type: EventType | Literal["webhook.test"] = Field(description="The event's type; `webhook.test` for a test.")
    status: DeliveryStatus
    attempts: list[AttemptOut] = Field(description="The latest twenty, oldest first.")
    next_attempt_at: datetime | None = Field(description="While it is pending.")
    created_at: datetime
    delivered_at: datetime | None

    @classmethod
    def of(cls, row: WebhookDelivery) -> Self:
        return cls(
            id=row.event_id,
            job=row.job_id,
            seq=row.seq,
            type="webhook.test" if row.type == TEST_TYPE else EventType(row.type),
            status=DeliveryStatus(row.status),
            attempts=[AttemptOut.model_validate(entry) for entry in row.log],
            next_attempt_at=row.run_after if row.status == DeliveryStatus.PENDING else None,
            created_at=row.created_at,
            delivered_at=row.delivered_at,
        )


class SecretOut(BaseModel):
    """Signs the webhooks of jobs without a secret of their own. Keep it as safe as your API key."""

    model_config = example({"object": "webhook_secret", "secret": _SECRET, "previous_valid_until": None})

    object: Literal["webhook_secret"] = "webhook_secret"
    secret: str
    previous_valid_until: datetime | None = Field(None, description="Until then the previous secret signs as well.")
