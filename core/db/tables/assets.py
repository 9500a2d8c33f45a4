"""Base models, datasets and adapters."""

from datetime import datetime
from typing import Any

from sqlalchemy import Computed, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Checked, now
from core.domain.model import Family
from core.domain.states import AdapterStatus, CheckStatus, DatasetStatus


class Model(Base):
    """``info`` is the card; ``source`` is what to prepare while there is no card, or a new one is requested."""

    __tablename__ = "models"

    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    location: Mapped[str]
    info: Mapped[dict[str, Any] | None]
    source: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = now()


class Dataset(Checked, Base):
    """``manifest`` may list thousands of images: it is loaded on demand, within its session.

    A revision names its ``parent_id``, and its images' keys are in the folders of the datasets that they came with.
    ``crops``: image -> its box, while a revision waits for a worker to cut them out. ``sources``: the addresses that a
    worker fetches its files from.
    """

    __tablename__ = "datasets"
    __table_args__ = (
        Index("ix_datasets_tenant_id_id", "tenant_id", "id"),
        Index("ix_datasets_image_folders", "image_folders", postgresql_using="gin"),
    )
    CHECKING = DatasetStatus.VALIDATING

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str | None]
    manifest: Mapped[dict[str, Any] | None] = mapped_column(deferred=True)
    manifest_sha256: Mapped[str | None]
    # Computed by the database, so that a tenant's usage is a sum over short rows: the size in storage of the images in
    # its own folder, and all folders that its images are in (each named by its dataset's id).
    image_bytes: Mapped[int | None] = mapped_column(
        Computed("total_sizes_in((id)::text, (manifest -> 'images'::text))", persisted=True), deferred=True
    )
    image_folders: Mapped[list[str] | None] = mapped_column(
        ARRAY(Text), Computed("list_folders((manifest -> 'images'::text))", persisted=True), deferred=True
    )
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id", ondelete="SET NULL"), index=True)
    crops: Mapped[dict[str, Any] | None]
    sources: Mapped[list[Any] | None]
    report: Mapped[dict[str, Any] | None]
    validated_at: Mapped[datetime | None]


class DatasetFile(Base):
    """A file as it was uploaded; one row per name and dataset."""

    __tablename__ = "dataset_files"

    id: Mapped[str] = mapped_column(primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    filename: Mapped[str]
    key: Mapped[str]
    sha256: Mapped[str]
    size: Mapped[int]
    created_at: Mapped[datetime] = now()

    __table_args__ = (UniqueConstraint("dataset_id", "filename"),)


class Adapter(Checked, Base):
    """A job's adapter, which is deleted with its job; or an imported file or a merge of others, of which little is
    known while `checking`.

    ``files``: format -> {key, sha256, size}. ``upload``: the uploaded file of an import, until its check. ``merge``:
    what a merge was made from, as core.domain.adapter_merge.Merge. ``conversion``: as core.domain.adapter_import's.
    ``cover``: a copy of an image, {key, sha256, size}.
    """

    __tablename__ = "adapters"
    __table_args__ = (
        Index("ix_adapters_tenant_id_id", "tenant_id", "id"),
        Index("ix_adapters_tenant_id_model_id_id", "tenant_id", "model_id", "id"),
        Index("ix_adapters_tenant_id_trigger_id", "tenant_id", "trigger", "id"),
        Index("ix_adapters_tags", "tags", postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"}),
    )
    CHECKING = AdapterStatus.CHECKING

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), unique=True)
    source: Mapped[str]
    name: Mapped[str]
    trigger: Mapped[str] = mapped_column(server_default="")
    description: Mapped[str] = mapped_column(server_default="")
    notes: Mapped[str] = mapped_column(server_default="")
    license: Mapped[str | None]
    cover: Mapped[dict[str, Any] | None]
    tags: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    model_sha256: Mapped[str]
    family: Mapped[Family] = mapped_column(String)
    type: Mapped[str | None]
    rank: Mapped[int | None]
    upload: Mapped[dict[str, Any] | None]
    merge: Mapped[dict[str, Any] | None]
    conversion: Mapped[dict[str, Any] | None]
    files: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    ignored: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    num_ignored: Mapped[int] = mapped_column(server_default="0")
    metrics: Mapped[dict[str, Any] | None]
    proofs: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    checked_at: Mapped[datetime | None]


class AdapterCheck(Checked, Base):
    """A comparison of adapters with a base and with one another. ``adapters``: their ids; ``result``: as
    core.domain.adapter_check.CheckResult."""

    __tablename__ = "adapter_checks"
    __table_args__ = (Index("ix_adapter_checks_tenant_id_id", "tenant_id", "id"),)
    CHECKING = CheckStatus.CHECKING

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    model_sha256: Mapped[str]
    family: Mapped[Family] = mapped_column(String)
    adapters: Mapped[list[Any]]
    result: Mapped[dict[str, Any] | None]
