"""Pictures that clients send as covers of adapters; a worker writes them anew."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0153"
down_revision = "0152"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OWN = "tenant_id = current_setting('atelier.tenant', true)"


def upgrade() -> None:
    op.create_table(
        "sent_covers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("adapter_id", sa.String(), nullable=False),
        sa.Column("upload", JSONB(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("num_deferrals", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("waiting_reason", sa.String(), nullable=True),
        sa.Column("run_after", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sent_covers"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_sent_covers_tenant_id_tenants"),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapters.id"], name="fk_sent_covers_adapter_id_adapters", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_sent_covers_tenant_id_id", "sent_covers", ["tenant_id", "id"])
    op.create_index("ix_sent_covers_adapter_id_id", "sent_covers", ["adapter_id", "id"])
    op.execute(f"CREATE POLICY tenant ON sent_covers USING ({OWN}) WITH CHECK ({OWN})")
    op.execute("ALTER TABLE sent_covers ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE sent_covers FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("sent_covers")
