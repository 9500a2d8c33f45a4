"""The thumbnails of a dataset's images count as stored, with the images."""

from alembic import op

revision = "0175"
down_revision = "0161"
branch_labels = None
depends_on = None

# Rows from before have no thumbnails: their computed totals stay true.
FUNCTION = """
CREATE OR REPLACE FUNCTION total_sizes_in(folder text, images jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(sum({size}), 0)::bigint
    FROM jsonb_array_elements(CASE jsonb_typeof(images) WHEN 'array' THEN images ELSE '[]'::jsonb END) AS image
    WHERE split_part(image ->> 'key', '/', 2) = folder
$$
"""
IMAGE = "(image ->> 'size')::bigint"
WITH_THUMBNAIL = f"{IMAGE} + coalesce((image -> 'thumbnail' ->> 'size')::bigint, 0)"


def upgrade() -> None:
    op.execute(FUNCTION.format(size=WITH_THUMBNAIL))


def downgrade() -> None:
    op.execute(FUNCTION.format(size=IMAGE))
