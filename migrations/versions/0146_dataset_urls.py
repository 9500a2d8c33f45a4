"""Datasets whose files a worker fetches from addresses."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0146"
down_revision = "0145"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("sources", JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("datasets", "sources")
