"""Generations: images that a base draws with adapters."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Checked


class Generation(Checked, Base):
    """``queued`` until it ends; a worker draws it while it has a lease. ``images``: index, or
    ``sheet-N`` for the sheet of a prompt -> {key, sha256, size}."""

    __tablename__ = "generations"
    __table_args__ = (
        Index("ix_generations_tenant_id_id", "tenant_id", "id"),
        Index("ix_generations_tenant_id_ended_at", "tenant_id", "ended_at"),
        Index("ix_generations_queued", "attempt", "created_at", postgresql_where=text("status = 'queued'")),
    )
    CHECKING = "queued"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    spec: Mapped[dict[str, Any]]
    plan: Mapped[dict[str, Any]]
    images: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    ended_at: Mapped[datetime | None]
