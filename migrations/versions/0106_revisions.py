"""Revisions of datasets: a parent, the folders in storage that a dataset's images are in, and crops to be made."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0106"
down_revision = "0105"
branch_labels = None
depends_on = None

# Keys are datasets/<id>/images/<sha256>.png. Whatever else stands there counts as nothing: a row that was written must
# not fail for it (as total_sizes in 0007).
FUNCTIONS = (
    """
CREATE FUNCTION list_folders(images jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(DISTINCT split_part(image ->> 'key', '/', 2)) FILTER (WHERE image ? 'key'), '{}')
    FROM jsonb_array_elements(CASE jsonb_typeof(images) WHEN 'array' THEN images ELSE '[]'::jsonb END) AS image
$$
""",
    """
CREATE FUNCTION total_sizes_in(folder text, images jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(sum((image ->> 'size')::bigint), 0)::bigint
    FROM jsonb_array_elements(CASE jsonb_typeof(images) WHEN 'array' THEN images ELSE '[]'::jsonb END) AS image
    WHERE split_part(image ->> 'key', '/', 2) = folder
$$
""",
)


def upgrade() -> None:
    op.add_column("datasets", sa.Column("parent_id", sa.String(), nullable=True))
    op.create_foreign_key(
        "fk_datasets_parent_id_datasets", "datasets", "datasets", ["parent_id"], ["id"], ondelete="SET NULL"
    )
    op.create_index("ix_datasets_parent_id", "datasets", ["parent_id"])
    op.add_column("datasets", sa.Column("crops", postgresql.JSONB(), nullable=True))
    for function in FUNCTIONS:
        op.execute(function)
    folders = sa.Computed("list_folders(manifest -> 'images')", persisted=True)
    op.add_column("datasets", sa.Column("image_folders", postgresql.ARRAY(sa.Text()), folders, nullable=True))
    op.create_index("ix_datasets_image_folders", "datasets", ["image_folders"], postgresql_using="gin")
    _compute_image_bytes("total_sizes_in(id, manifest -> 'images')")


def downgrade() -> None:
    _compute_image_bytes("total_sizes(manifest -> 'images')")
    op.drop_column("datasets", "image_folders")
    for name in ("list_folders", "total_sizes_in"):
        op.execute(f"DROP FUNCTION {name}")
    op.drop_column("datasets", "crops")
    op.drop_column("datasets", "parent_id")


def _compute_image_bytes(expression: str) -> None:
    op.drop_column("datasets", "image_bytes")
    computed = sa.Computed(expression, persisted=True)
    op.add_column("datasets", sa.Column("image_bytes", sa.BigInteger(), computed, nullable=True))
