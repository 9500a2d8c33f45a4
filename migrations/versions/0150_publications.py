"""Publications: adapters that a worker sends to a repository of the Hub."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0150"
down_revision = "0146"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OWN = "tenant_id = current_setting('atelier.tenant', true)"


def upgrade() -> None:
    op.create_table(
        "publications",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("adapter_id", sa.String(), nullable=False),
        sa.Column("spec", JSONB(), nullable=False),
        sa.Column("token_share", sa.LargeBinary(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=True),
        sa.Column("commit", sa.String(), nullable=True),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("num_deferrals", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("waiting_reason", sa.String(), nullable=True),
        sa.Column("run_after", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_publications"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_publications_tenant_id_tenants"),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapters.id"], name="fk_publications_adapter_id_adapters", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_publications_tenant_id_id", "publications", ["tenant_id", "id"])
    op.create_index("ix_publications_adapter_id_id", "publications", ["adapter_id", "id"])
    op.execute(f"CREATE POLICY tenant ON publications USING ({OWN}) WITH CHECK ({OWN})")
    op.execute("ALTER TABLE publications ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE publications FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("publications")
