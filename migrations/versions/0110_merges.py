"""Adapters that are made from others: adapters.merge says from which, and how."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0110"
down_revision = "0106"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("adapters", sa.Column("merge", JSONB(), nullable=True))


def downgrade() -> None:
    op.execute("ALTER TABLE adapters NO FORCE ROW LEVEL SECURITY")
    # A merge that is ready is an adapter like any other; one that is not has no file to check.
    op.execute("DELETE FROM adapters WHERE merge IS NOT NULL AND status = 'checking'")
    op.execute("UPDATE adapters SET source = 'import' WHERE merge IS NOT NULL")
    op.execute("ALTER TABLE adapters FORCE ROW LEVEL SECURITY")
    op.drop_column("adapters", "merge")
