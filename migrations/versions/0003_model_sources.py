"""Bases that a worker has to prepare before they have a card."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("source", JSONB(), nullable=True))
    op.add_column("models", sa.Column("error", JSONB(), nullable=True))
    op.alter_column("models", "info", nullable=True)


def downgrade() -> None:
    op.execute("DELETE FROM models WHERE info IS NULL")
    op.alter_column("models", "info", nullable=False)
    op.drop_column("models", "error")
    op.drop_column("models", "source")
