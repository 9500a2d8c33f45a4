"""Captioners, captionings of datasets, and the captions that were made, so that none is made twice."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0145"
down_revision = "0141"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
OWN = "tenant_id = current_setting('atelier.tenant', true)"


def upgrade() -> None:
    op.create_table(
        "captioners",
        sa.Column("source", JSONB(), nullable=False),
        sa.Column("location", sa.String(), nullable=False),
        sa.Column("info", JSONB(), nullable=True),
        *lease_columns(),
        sa.PrimaryKeyConstraint("id", name="pk_captioners"),
    )
    op.create_table(
        "captionings",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("revision_id", sa.String(), nullable=True),
        sa.Column("captioner_id", sa.String(), nullable=False),
        sa.Column("spec", JSONB(), nullable=False),
        sa.Column("plan", JSONB(), nullable=False),
        sa.Column("num_images", sa.BigInteger(), nullable=False),
        sa.Column("num_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("num_reused", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("turn_ended_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        *lease_columns(),
        sa.PrimaryKeyConstraint("id", name="pk_captionings"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_captionings_tenant_id_tenants"),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name="fk_captionings_dataset_id_datasets", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["datasets.id"], name="fk_captionings_revision_id_datasets", ondelete="SET NULL"
        ),
    )
    op.create_index("ix_captionings_tenant_id_id", "captionings", ["tenant_id", "id"])
    op.create_index("ix_captionings_tenant_id_ended_at", "captionings", ["tenant_id", "ended_at"])
    op.create_index("ix_captionings_dataset_id", "captionings", ["dataset_id"])
    op.create_index("ix_captionings_revision_id", "captionings", ["revision_id"])
    waiting = sa.text("status = 'queued'")
    op.create_index("ix_captionings_queued", "captionings", ["attempt", "created_at"], postgresql_where=waiting)
    op.create_table(
        "image_captions",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("words", sa.String(), nullable=False),
        sa.Column("used_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "key", name="pk_image_captions"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_image_captions_tenant_id_tenants"),
    )
    op.create_index("ix_image_captions_tenant_id_used_at", "image_captions", ["tenant_id", "used_at"])
    for table in ("captionings", "image_captions"):
        op.execute(f"CREATE POLICY tenant ON {table} USING ({OWN}) WITH CHECK ({OWN})")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def lease_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("num_deferrals", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("waiting_reason", sa.String(), nullable=True),
        sa.Column("run_after", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
    ]


def downgrade() -> None:
    op.drop_table("image_captions")
    op.drop_table("captionings")
    op.drop_table("captioners")
