"""A worker may hold several bases in memory."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0125"
down_revision = "0120"
branch_labels = None
depends_on = None


def upgrade() -> None:
    none = sa.text("'{}'::varchar[]")
    op.add_column("workers", sa.Column("warm_models", ARRAY(sa.String()), server_default=none, nullable=False))
    op.execute("UPDATE workers SET warm_models = ARRAY[warm_model] WHERE warm_model IS NOT NULL")
    op.drop_column("workers", "warm_model")


def downgrade() -> None:
    op.add_column("workers", sa.Column("warm_model", sa.String(), nullable=True))
    op.execute("UPDATE workers SET warm_model = warm_models[cardinality(warm_models)]")
    op.drop_column("workers", "warm_models")
