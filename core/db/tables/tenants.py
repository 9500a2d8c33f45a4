"""Tenants, their keys, limits and usage, and the audit log."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, now


class Tenant(Base):
    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime] = now()


class ApiKey(Base):
    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str]
    prefix: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[Any]] = mapped_column(server_default=text('\'["read", "jobs"]\'::jsonb'))
    created_at: Mapped[datetime] = now()
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_api_keys_tenant_id_id", "tenant_id", "id"),)


class DashboardToken(Base):
    """A one-time login link, or the session that replaced it; only the hash is stored."""

    __tablename__ = "dashboard_tokens"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    expires_at: Mapped[datetime]


class AuditEntry(Base):
    """Append-only; a trigger refuses updates and deletes. ``target_id`` may name a deleted object."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("ix_audit_log_tenant_id_id", "tenant_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    key_id: Mapped[str]
    action: Mapped[str]
    target_id: Mapped[str]
    address: Mapped[str]
    created_at: Mapped[datetime] = now()


class Quota(Base):
    """A tenant's limits; null is none. ``is_default``: the limits of the settings apply, and the columns are not read.

    The row also serializes reservations of one tenant: see core/db/quotas.py.
    """

    __tablename__ = "quotas"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    is_default: Mapped[bool] = mapped_column(server_default=text("true"))
    running_jobs: Mapped[int | None]
    queued_jobs: Mapped[int | None]
    stored_bytes: Mapped[int | None]
    steps_per_day: Mapped[int | None]
    images_per_dataset: Mapped[int | None]
    rank: Mapped[int | None]
    resolution: Mapped[int | None]


class UsageDay(Base):
    """The steps of the jobs accepted on a tenant's day (UTC); a deleted job's steps stay."""

    __tablename__ = "usage_days"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    steps: Mapped[int]


class Turn(Base):
    """When a worker last took a job of the tenant. Only claims write it, so that nothing else holds it locked."""

    __tablename__ = "turns"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    taken_at: Mapped[datetime]
