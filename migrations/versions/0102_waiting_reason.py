"""Deferred datasets and imports have the words of job queues: run_after, waiting_reason, num_deferrals."""

from alembic import op

revision = "0102"
down_revision = "0101"
branch_labels = None
depends_on = None

TABLES = ("datasets", "adapters")
COLUMNS = {"setbacks": "num_deferrals", "setback": "waiting_reason", "due_at": "run_after"}


def upgrade() -> None:
    for table in TABLES:
        for old, new in COLUMNS.items():
            op.alter_column(table, old, new_column_name=new)


def downgrade() -> None:
    for table in TABLES:
        for old, new in COLUMNS.items():
            op.alter_column(table, new, new_column_name=old)
