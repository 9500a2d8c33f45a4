"""Adapters as things of their own; the jobs that have succeeded get theirs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)

# An adapter of before gets its job's number, so that it stands among the others by its age.
OF_EARLIER_JOBS = """
INSERT INTO adapters (id, tenant_id, job_id, source, status, name, trigger, model_id, model_sha256, family, type,
                      rank, files, metrics, proofs, created_at)
SELECT 'ad_' || substr(job.id, 5), job.tenant_id, job.id, 'job', 'ready', job.plan->>'name', job.plan->>'trigger',
       job.model_id, job.plan->>'model_sha256', job.plan->>'family', job.plan->>'adapter_type',
       (job.plan->>'rank')::bigint, file.files, job.result->'metrics', coalesce(job.result->'proofs', '{}'),
       job.finished_at
FROM jobs AS job JOIN LATERAL (
    SELECT jsonb_object_agg(substr(kind, 9), jsonb_build_object('key', key, 'sha256', sha256, 'size', size)) AS files
    FROM job_artifacts WHERE job_id = job.id AND kind LIKE 'adapter-%'
) AS file ON file.files IS NOT NULL
WHERE job.status = 'succeeded'
"""


def upgrade() -> None:
    op.create_table(
        "adapters",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("trigger", sa.String(), server_default="", nullable=False),
        sa.Column("description", sa.String(), server_default="", nullable=False),
        sa.Column("tags", JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("model_sha256", sa.String(), nullable=False),
        sa.Column("family", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=True),
        sa.Column("rank", sa.BigInteger(), nullable=True),
        sa.Column("upload", JSONB(), nullable=True),
        sa.Column("files", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("metrics", JSONB(), nullable=True),
        sa.Column("proofs", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("checked_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_adapters"),
        sa.UniqueConstraint("job_id", name="uq_adapters_job_id"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_adapters_tenant_id_tenants"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_adapters_job_id_jobs", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_adapters_model_id_models"),
    )
    op.create_index("ix_adapters_tenant_id_id", "adapters", ["tenant_id", "id"])
    op.execute(OF_EARLIER_JOBS)


def downgrade() -> None:
    op.drop_table("adapters")
