"""Checks of adapters: whether they fit a base and one another. A worker answers; the answer is kept for a day."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0111"
down_revision = "0110"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OWN = "tenant_id = current_setting('atelier.tenant', true)"


def upgrade() -> None:
    op.create_table(
        "adapter_checks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("model_sha256", sa.String(), nullable=False),
        sa.Column("family", sa.String(), nullable=False),
        sa.Column("adapters", JSONB(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("result", JSONB(), nullable=True),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("num_deferrals", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("waiting_reason", sa.String(), nullable=True),
        sa.Column("run_after", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_adapter_checks"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_adapter_checks_tenant_id_tenants"),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name="fk_adapter_checks_model_id_models", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_adapter_checks_tenant_id_id", "adapter_checks", ["tenant_id", "id"])
    op.execute(f"CREATE POLICY tenant ON adapter_checks USING ({OWN}) WITH CHECK ({OWN})")
    op.execute("ALTER TABLE adapter_checks ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE adapter_checks FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("adapter_checks")
