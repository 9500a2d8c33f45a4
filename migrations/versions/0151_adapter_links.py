"""Links that show an adapter to people without a key."""

import sqlalchemy as sa
from alembic import op

revision = "0151"
down_revision = "0150"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OWN = "tenant_id = current_setting('atelier.tenant', true)"
PRESENTED = "sha256 = current_setting('atelier.presented', true)"


def upgrade() -> None:
    op.create_table(
        "adapter_links",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("adapter_id", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("num_views", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("num_downloads", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_used_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_adapter_links"),
        sa.UniqueConstraint("sha256", name="uq_adapter_links_sha256"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_adapter_links_tenant_id_tenants"),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapters.id"], name="fk_adapter_links_adapter_id_adapters", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_adapter_links_tenant_id_id", "adapter_links", ["tenant_id", "id"])
    op.create_index("ix_adapter_links_adapter_id_id", "adapter_links", ["adapter_id", "id"])
    op.execute(f"CREATE POLICY tenant ON adapter_links USING ({OWN}) WITH CHECK ({OWN})")
    # Who knows the secret sees the row of its hash: so a link tells of which tenant it is.
    op.execute(f"CREATE POLICY presented ON adapter_links FOR SELECT USING ({PRESENTED})")
    op.execute("ALTER TABLE adapter_links ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE adapter_links FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("adapter_links")
