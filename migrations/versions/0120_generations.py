"""Generations: images that a base draws with adapters."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0120"
down_revision = "0111"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OWN = "tenant_id = current_setting('atelier.tenant', true)"


def upgrade() -> None:
    op.create_table(
        "generations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("spec", JSONB(), nullable=False),
        sa.Column("plan", JSONB(), nullable=False),
        sa.Column("images", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("num_deferrals", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("waiting_reason", sa.String(), nullable=True),
        sa.Column("run_after", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_generations"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_generations_tenant_id_tenants"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_generations_model_id_models"),
    )
    op.create_index("ix_generations_tenant_id_id", "generations", ["tenant_id", "id"])
    op.create_index("ix_generations_tenant_id_ended_at", "generations", ["tenant_id", "ended_at"])
    waiting = sa.text("status = 'queued'")
    op.create_index("ix_generations_queued", "generations", ["attempt", "created_at"], postgresql_where=waiting)
    op.execute(f"CREATE POLICY tenant ON generations USING ({OWN}) WITH CHECK ({OWN})")
    op.execute("ALTER TABLE generations ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE generations FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("generations")
