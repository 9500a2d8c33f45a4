"""An Idempotency-Key may have created something else than a job."""

from alembic import op

revision = "0161"
down_revision = "0160"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint("fk_idempotency_records_job_id_jobs", "idempotency_records", type_="foreignkey")
    op.alter_column("idempotency_records", "job_id", new_column_name="resource_id")


def downgrade() -> None:
    op.execute("DELETE FROM idempotency_records WHERE resource_id NOT IN (SELECT id FROM jobs)")
    op.alter_column("idempotency_records", "resource_id", new_column_name="job_id")
    op.create_foreign_key(
        "fk_idempotency_records_job_id_jobs", "idempotency_records", "jobs", ["job_id"], ["id"], ondelete="CASCADE"
    )
