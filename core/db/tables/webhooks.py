"""Webhooks and their deliveries."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Leased, now


class Webhook(Base):
    """A job's receiver. ``secret`` is stored only here, apart from the spec; null: the tenant's own secret signs.

    ``host`` with its port: calls are limited per host. ``disabled_at``: when the receiver answered 410.
    """

    __tablename__ = "webhooks"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    url: Mapped[str]
    host: Mapped[str]
    events: Mapped[list[Any]]
    secret: Mapped[str | None]
    disabled_at: Mapped[datetime | None]


class WebhookSecret(Base):
    """A tenant's secret. ``previous`` signs too, until ``previous_until``."""

    __tablename__ = "webhook_secrets"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    secret: Mapped[str]
    previous: Mapped[str | None]
    previous_until: Mapped[datetime | None]


class WebhookDelivery(Leased, Base):
    """One event for its job's receiver. ``body`` is signed and sent, the same in every attempt.

    ``attempt`` is the fence; ``tries`` counts within the retry table, and restarts with a requested redelivery.
    ``log`` lists {at, status_code, error, duration_seconds, excerpt}, oldest first.
    """

    __tablename__ = "webhook_deliveries"

    event_id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("webhooks.job_id", ondelete="CASCADE"))
    seq: Mapped[int]
    type: Mapped[str]
    body: Mapped[str]
    tries: Mapped[int] = mapped_column(server_default="0")
    run_after: Mapped[datetime] = now()
    log: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    created_at: Mapped[datetime] = now()
    delivered_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("job_id", "seq"),
        Index("ix_webhook_deliveries_due", "run_after", postgresql_where=text("status = 'pending'")),
    )
