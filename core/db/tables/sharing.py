"""What shows an adapter to others: publications on the Hub, links for people without a key, and sent covers."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Checked, now
from core.domain.publication import PublicationStatus
from core.domain.states import CoverStatus


class Publication(Checked, Base):
    """An adapter that a worker sends to a repository of the Hub. ``spec``: as core.domain.publication.PublicationSpec.

    ``token_share``: one of the two shares of the client's token, until it ends; None for the operator's token.
    """

    __tablename__ = "publications"
    __table_args__ = (
        Index("ix_publications_tenant_id_id", "tenant_id", "id"),
        Index("ix_publications_adapter_id_id", "adapter_id", "id"),
    )
    CHECKING = PublicationStatus.PUBLISHING

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    adapter_id: Mapped[str] = mapped_column(ForeignKey("adapters.id", ondelete="CASCADE"))
    spec: Mapped[dict[str, Any]]
    token_share: Mapped[bytes | None] = mapped_column(LargeBinary)
    url: Mapped[str | None]
    commit: Mapped[str | None]
    ended_at: Mapped[datetime | None]


class AdapterLink(Base):
    """A page and a download for whoever has the link's secret; ``sha256`` is that of the secret."""

    __tablename__ = "adapter_links"
    __table_args__ = (
        Index("ix_adapter_links_tenant_id_id", "tenant_id", "id"),
        Index("ix_adapter_links_adapter_id_id", "adapter_id", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    adapter_id: Mapped[str] = mapped_column(ForeignKey("adapters.id", ondelete="CASCADE"))
    sha256: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = now()
    expires_at: Mapped[datetime]
    num_views: Mapped[int] = mapped_column(server_default="0")
    num_downloads: Mapped[int] = mapped_column(server_default="0")
    last_used_at: Mapped[datetime | None]


class SentCover(Checked, Base):
    """A picture that a client sent as an adapter's cover. ``upload``: {key, sha256, size}, as it was sent."""

    __tablename__ = "sent_covers"
    __table_args__ = (
        Index("ix_sent_covers_tenant_id_id", "tenant_id", "id"),
        Index("ix_sent_covers_adapter_id_id", "adapter_id", "id"),
    )
    CHECKING = CoverStatus.CHECKING

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    adapter_id: Mapped[str] = mapped_column(ForeignKey("adapters.id", ondelete="CASCADE"))
    upload: Mapped[dict[str, Any]]
