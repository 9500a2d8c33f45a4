"""The further datasets of jobs with several: none is deleted while such a job needs it."""

import sqlalchemy as sa
from alembic import op

revision = "0141"
down_revision = "0140"
branch_labels = None
depends_on = None

OWN = "(SELECT tenant_id FROM jobs WHERE jobs.id = job_datasets.job_id) = current_setting('atelier.tenant', true)"


def upgrade() -> None:
    op.create_table(
        "job_datasets",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "dataset_id", name="pk_job_datasets"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_datasets_job_id_jobs", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name="fk_job_datasets_dataset_id_datasets"),
    )
    op.create_index("ix_job_datasets_dataset_id", "job_datasets", ["dataset_id"])
    op.execute(f"CREATE POLICY tenant ON job_datasets USING ({OWN}) WITH CHECK ({OWN})")
    op.execute("ALTER TABLE job_datasets ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE job_datasets FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("job_datasets")
