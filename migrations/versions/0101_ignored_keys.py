"""Imported adapters say which of their file's tensors were not taken over."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0101"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("adapters", sa.Column("ignored", JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False))
    op.add_column("adapters", sa.Column("num_ignored", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("adapters", "num_ignored")
    op.drop_column("adapters", "ignored")
