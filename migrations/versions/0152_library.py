"""The library of adapters: notes, a licence and a cover, and indexes for its searches."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0152"
down_revision = "0151"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("adapters", sa.Column("notes", sa.String(), server_default="", nullable=False))
    op.add_column("adapters", sa.Column("license", sa.String(), nullable=True))
    op.add_column("adapters", sa.Column("cover", JSONB(), nullable=True))
    op.create_index("ix_adapters_tenant_id_model_id_id", "adapters", ["tenant_id", "model_id", "id"])
    op.create_index("ix_adapters_tenant_id_trigger_id", "adapters", ["tenant_id", "trigger", "id"])
    op.create_index(
        "ix_adapters_tags", "adapters", ["tags"], postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"}
    )


def downgrade() -> None:
    for name in ("ix_adapters_tags", "ix_adapters_tenant_id_trigger_id", "ix_adapters_tenant_id_model_id_id"):
        op.drop_index(name, "adapters")
    for column in ("cover", "license", "notes"):
        op.drop_column("adapters", column)
