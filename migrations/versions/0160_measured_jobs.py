"""The jobs that an estimate is made from are found without reading a tenant's others."""

import sqlalchemy as sa
from alembic import op

revision = "0160"
down_revision = "0153"
branch_labels = None
depends_on = None


def upgrade() -> None:
    succeeded = sa.text("status = 'succeeded'")
    op.create_index(
        "ix_jobs_tenant_id_model_id_succeeded", "jobs", ["tenant_id", "model_id", "id"], postgresql_where=succeeded
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_tenant_id_model_id_succeeded", "jobs")
