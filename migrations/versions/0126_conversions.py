"""What an import's layers were before they became LoRA's."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0126"
down_revision = "0125"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("adapters", sa.Column("conversion", JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("adapters", "conversion")
