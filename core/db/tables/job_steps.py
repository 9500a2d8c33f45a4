"""A job's steps that clients choose from: their adapters, the promotion of one, and samples that are requested."""

from datetime import datetime
from typing import Any

from sqlalchemy import Computed, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Checked, now
from core.domain.states import CheckStatus


class StepAdapter(Base):
    """The adapter of a step. ``files``: format -> {key, sha256, size}; ``size``: of all of them. The job's own adapter
    is here too, with the same keys as among its artifacts."""

    __tablename__ = "step_adapters"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    files: Mapped[dict[str, Any]]
    size: Mapped[int]
    created_at: Mapped[datetime] = now()


class Promotion(Checked, Base):
    """A request that another step's adapter becomes the job's, once a worker has proved that its files load."""

    __tablename__ = "promotions"
    __table_args__ = (Index("ix_promotions_job_id_id", "job_id", "id"),)
    CHECKING = CheckStatus.CHECKING

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    step: Mapped[int]


class SampleRequest(Base):
    """Images that were requested of a running job. ``status``: waiting, drawn or failed; ``step`` and ``images`` (each
    {prompt, seed, key, sha256, size}) once they are drawn."""

    __tablename__ = "sample_requests"
    __table_args__ = (
        Index("ix_sample_requests_job_id_id", "job_id", "id"),
        Index("ix_sample_requests_waiting", "job_id", postgresql_where=text("status = 'waiting'")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    status: Mapped[str]
    prompts: Mapped[list[Any]]
    seed: Mapped[int]
    step: Mapped[int | None]
    images: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    error: Mapped[dict[str, Any] | None]
    image_bytes: Mapped[int | None] = mapped_column(Computed("total_sizes(images)", persisted=True), deferred=True)
    created_at: Mapped[datetime] = now()
    drawn_at: Mapped[datetime | None]
