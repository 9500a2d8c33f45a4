"""Jobs, their outputs, and workers."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Computed, ForeignKey, Index, String, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, array
from sqlalchemy.orm import Mapped, column_property, mapped_column

from core.db.tables.base import Base, Leased, now
from core.domain.plan import NOT_IN_OUTLINE


def _outline_of(plan: Any) -> ColumnElement[Any]:
    """Computed by the database, so that the images and the base's prompts are not sent."""
    count = func.jsonb_build_object("num_images", func.jsonb_array_length(plan.column["images"]))
    without_lists: ColumnElement[Any] = plan.column.op("-", return_type=JSONB())(array(NOT_IN_OUTLINE))
    without_keys: ColumnElement[Any] = without_lists.op("#-", return_type=JSONB())(array(["init_adapter", "key"]))
    return without_keys.op("||", return_type=JSONB())(count)


MEASURED = "status = 'succeeded' AND (result -> 'measured') ? 'start_seconds'"
"""Jobs that an estimate can be made from."""


class Job(Leased, Base):
    """``plan`` lists every image: it is loaded on demand, within its session. ``outline`` is always loaded: the plan
    with ``num_images`` in place of ``images``, and without prompts, of which a card may have hundreds.
    """

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    phase: Mapped[str | None]
    spec: Mapped[dict[str, Any]]
    plan: Mapped[dict[str, Any]] = mapped_column(JSONB, deferred=True)
    # A plan never changes, so a change of the rest need not read it again.
    outline: Mapped[dict[str, Any]] = column_property(_outline_of(plan), expire_on_flush=False)
    estimate: Mapped[dict[str, Any]]
    runtime: Mapped[dict[str, Any] | None]
    progress: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    priority: Mapped[int] = mapped_column(server_default="0")
    failures: Mapped[int] = mapped_column(server_default="0")
    run_after: Mapped[datetime] = now()
    created_at: Mapped[datetime] = now()
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_jobs_tenant_id_id", "tenant_id", "id"),
        Index(
            "ix_jobs_tenant_id_model_id_measured",
            "tenant_id",
            "model_id",
            "id",
            postgresql_where=text(MEASURED),
        ),
        Index(
            "ix_jobs_queue",
            "tenant_id",
            text("priority DESC"),
            "created_at",
            postgresql_where=text("status = 'queued'"),
        ),
        Index(
            "ix_jobs_unfinished",
            "tenant_id",
            "status",
            postgresql_where=text("status IN ('queued', 'paused', 'running', 'pausing', 'canceling')"),
        ),
    )


class JobDataset(Base):
    """A further dataset of a job, beside ``Job.dataset_id``."""

    __tablename__ = "job_datasets"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True, index=True)


class JobEvent(Base):
    """Append-only; a trigger refuses updates, and deletes except with the job."""

    __tablename__ = "job_events"

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    seq: Mapped[int]
    type: Mapped[str]
    attempt: Mapped[int]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = now()

    __table_args__ = (UniqueConstraint("job_id", "seq"),)


class JobMetric(Base):
    __tablename__ = "job_metrics"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    loss: Mapped[float]
    validation_loss: Mapped[float | None]
    learning_rate: Mapped[float]
    seconds_per_step: Mapped[float]


class JobCheckpoint(Base):
    __tablename__ = "job_checkpoints"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    loss: Mapped[float]
    key: Mapped[str]
    sha256: Mapped[str]
    size: Mapped[int]
    created_at: Mapped[datetime] = now()


class JobSample(Base):
    """One step's images. ``images`` lists {prompt, seed, key, sha256, size}; step 0 is the base alone."""

    __tablename__ = "job_samples"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    images: Mapped[list[Any]]
    grid: Mapped[dict[str, Any]]
    image_bytes: Mapped[int | None] = mapped_column(
        Computed("total_sizes(images) + COALESCE((grid ->> 'size'::text)::bigint, 0::bigint)", persisted=True),
        deferred=True,
    )
    created_at: Mapped[datetime] = now()


class JobArtifact(Base):
    __tablename__ = "job_artifacts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str]
    sha256: Mapped[str]
    size: Mapped[int]


class IdempotencyRecord(Base):
    __tablename__ = "idempotency_records"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_sha256: Mapped[str]
    resource_id: Mapped[str]
    created_at: Mapped[datetime] = now()


class Worker(Base):
    """The workers. A row is fresh while ``seen_at`` is; it is bookkeeping, not a lock."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str]
    device_name: Mapped[str]
    memory_bytes: Mapped[int | None]
    job_id: Mapped[str | None]
    warm_models: Mapped[list[str]] = mapped_column(ARRAY(String), server_default=text("'{}'::varchar[]"))
    seen_at: Mapped[datetime] = now()
