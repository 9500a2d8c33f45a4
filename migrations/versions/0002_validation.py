"""Held-out losses beside the training losses."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job_metrics", sa.Column("validation_loss", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("job_metrics", "validation_loss")
