"""The adapters of a job's steps, promotions of one of them, and samples that are requested of a running job."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0140"
down_revision = "0126"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
OF_JOBS = ("step_adapters", "promotions", "sample_requests")


def upgrade() -> None:
    op.create_table(
        "step_adapters",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("files", JSONB(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "step", name="pk_step_adapters"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_step_adapters_job_id_jobs", ondelete="CASCADE"),
    )
    op.create_table(
        "promotions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("num_deferrals", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("waiting_reason", sa.String(), nullable=True),
        sa.Column("run_after", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_promotions"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_promotions_job_id_jobs", ondelete="CASCADE"),
    )
    op.create_index("ix_promotions_job_id_id", "promotions", ["job_id", "id"])
    op.create_table(
        "sample_requests",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("prompts", JSONB(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=True),
        sa.Column("images", JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("image_bytes", sa.BigInteger(), sa.Computed("total_sizes(images)", persisted=True), nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("drawn_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_sample_requests"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_sample_requests_job_id_jobs", ondelete="CASCADE"),
    )
    op.create_index("ix_sample_requests_job_id_id", "sample_requests", ["job_id", "id"])
    waiting = sa.text("status = 'waiting'")
    op.create_index("ix_sample_requests_waiting", "sample_requests", ["job_id"], postgresql_where=waiting)
    for table in OF_JOBS:
        own = f"(SELECT tenant_id FROM jobs WHERE jobs.id = {table}.job_id) = current_setting('atelier.tenant', true)"  # noqa: S608
        op.execute(f"CREATE POLICY tenant ON {table} USING ({own}) WITH CHECK ({own})")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    for table in reversed(OF_JOBS):
        op.drop_table(table)
