"""Quotas, what tenants have used, whose turn it is; and a queue that is read tenant by tenant."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
LIMITS = (
    "running_jobs", "queued_jobs", "stored_bytes", "steps_per_day", "images_per_dataset", "rank", "resolution",
)  # fmt: skip

TABLES = ("quotas", "usage_days", "turns")
OWN = "tenant_id = current_setting('atelier.tenant', true)"

# Whatever else stands there counts as nothing: a row that was written must not fail for its size.
TOTAL_SIZES = """
CREATE FUNCTION total_sizes(items jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(sum((item ->> 'size')::bigint), 0)::bigint
    FROM jsonb_array_elements(CASE jsonb_typeof(items) WHEN 'array' THEN items ELSE '[]'::jsonb END) AS item
$$
"""


def upgrade() -> None:
    op.create_table(
        "quotas",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("is_default", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in LIMITS),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_quotas"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_quotas_tenant_id_tenants"),
    )
    op.create_table(
        "usage_days",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("steps", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "day", name="pk_usage_days"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_usage_days_tenant_id_tenants"),
    )
    op.create_table(
        "turns",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("taken_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_turns"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_turns_tenant_id_tenants"),
    )
    for table in TABLES:
        op.execute(f"CREATE POLICY tenant ON {table} USING ({OWN}) WITH CHECK ({OWN})")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.drop_index("ix_jobs_queue", "jobs")
    queue = ["tenant_id", sa.text("priority DESC"), "created_at"]
    op.create_index("ix_jobs_queue", "jobs", queue, postgresql_where=sa.text("status = 'queued'"))
    unfinished = sa.text("status IN ('queued', 'paused', 'running', 'pausing', 'canceling')")
    op.create_index("ix_jobs_unfinished", "jobs", ["tenant_id", "status"], postgresql_where=unfinished)
    op.execute(TOTAL_SIZES)
    _add_computed("datasets", "image_bytes", "total_sizes(manifest -> 'images')")
    _add_computed("job_samples", "picture_bytes", "total_sizes(images) + coalesce((grid ->> 'size')::bigint, 0)")


def _add_computed(table: str, name: str, expression: str) -> None:
    op.add_column(table, sa.Column(name, sa.BigInteger(), sa.Computed(expression, persisted=True), nullable=True))


def downgrade() -> None:
    op.drop_column("job_samples", "picture_bytes")
    op.drop_column("datasets", "image_bytes")
    op.execute("DROP FUNCTION total_sizes")
    op.drop_index("ix_jobs_unfinished", "jobs")
    op.drop_index("ix_jobs_queue", "jobs")
    queue = [sa.text("priority DESC"), "created_at"]
    op.create_index("ix_jobs_queue", "jobs", queue, postgresql_where=sa.text("status = 'queued'"))
    for table in TABLES:
        op.drop_table(table)
