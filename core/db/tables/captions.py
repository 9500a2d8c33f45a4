"""Captioners, captionings of datasets, and the captions that were made."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Checked, now
from core.domain.states import ModelStatus


class Captioner(Checked, Base):
    """A captioner of the operator, for every tenant. ``location``: its folder below the models directory; ``info``: as
    core.domain.captioner.CaptionerInfo, once a worker has loaded it."""

    __tablename__ = "captioners"
    CHECKING = ModelStatus.CHECKING

    source: Mapped[dict[str, Any]]
    location: Mapped[str]
    info: Mapped[dict[str, Any] | None]


class Captioning(Checked, Base):
    """``queued`` until it ends; a worker writes captions while it has a lease. ``turn_ended_at``: when it last made
    room for others."""

    __tablename__ = "captionings"
    __table_args__ = (
        Index("ix_captionings_tenant_id_id", "tenant_id", "id"),
        Index("ix_captionings_tenant_id_ended_at", "tenant_id", "ended_at"),
        Index("ix_captionings_queued", "attempt", "created_at", postgresql_where=text("status = 'queued'")),
    )
    CHECKING = "queued"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    revision_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id", ondelete="SET NULL"), index=True)
    captioner_id: Mapped[str]
    spec: Mapped[dict[str, Any]]
    plan: Mapped[dict[str, Any]]
    num_images: Mapped[int]
    num_done: Mapped[int] = mapped_column(server_default="0")
    num_reused: Mapped[int] = mapped_column(server_default="0")
    turn_ended_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class ImageCaption(Base):
    """What a captioner wrote for an image. ``key``: of the image, the captioner and its settings
    (core.domain.captioning)."""

    __tablename__ = "image_captions"
    __table_args__ = (Index("ix_image_captions_tenant_id_used_at", "tenant_id", "used_at"),)

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    words: Mapped[str]
    used_at: Mapped[datetime] = now()
