"""The jobs that an estimate is made from have an index of their own: the planner took a tenant's few thousand succeeded
jobs for so few with measurements that it read them all."""

import sqlalchemy as sa
from alembic import op

revision = "0181"
down_revision = "0180"
branch_labels = None
depends_on = None

COLUMNS = ["tenant_id", "model_id", "id"]
SUCCEEDED = "status = 'succeeded'"
MEASURED = "status = 'succeeded' AND (result -> 'measured') ? 'start_seconds'"


def upgrade() -> None:
    op.create_index("ix_jobs_tenant_id_model_id_measured", "jobs", COLUMNS, postgresql_where=sa.text(MEASURED))
    op.drop_index("ix_jobs_tenant_id_model_id_succeeded", "jobs")


def downgrade() -> None:
    op.create_index("ix_jobs_tenant_id_model_id_succeeded", "jobs", COLUMNS, postgresql_where=sa.text(SUCCEEDED))
    op.drop_index("ix_jobs_tenant_id_model_id_measured", "jobs")
