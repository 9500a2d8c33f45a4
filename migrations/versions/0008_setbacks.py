"""Datasets and imports that a worker could not deal with for no fault of theirs wait a while, and say why."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = ("datasets", "adapters")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("setbacks", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
        op.add_column(table, sa.Column("setback", sa.String(), nullable=True))
        op.add_column(table, sa.Column("due_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for table in TABLES:
        for column in ("due_at", "setback", "setbacks"):
            op.drop_column(table, column)
