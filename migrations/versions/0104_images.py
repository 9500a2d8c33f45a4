"""Stored names say image: image_bytes, seconds_per_image, and the dataset warning first-frame."""

from alembic import op

revision = "0104"
down_revision = "0103"
branch_labels = None
depends_on = None

RENAMED = (
    ("models", "info", '"seconds_per_picture":', '"seconds_per_image":'),
    ("jobs", "result", '"seconds_per_picture":', '"seconds_per_image":'),
    ("datasets", "report", '"code": "first-picture"', '"code": "first-frame"'),
)
"""Table, JSON column, and a part of its text. Users' strings cannot match: their quotes are escaped."""

WITH_POLICY = ("jobs", "datasets")


def upgrade() -> None:
    op.alter_column("job_samples", "picture_bytes", new_column_name="image_bytes")
    for table, column, old, new in RENAMED:
        _replace(table, column, old, new)


def downgrade() -> None:
    op.alter_column("job_samples", "image_bytes", new_column_name="picture_bytes")
    for table, column, old, new in RENAMED:
        _replace(table, column, new, old)


def _replace(table: str, column: str, old: str, new: str) -> None:
    forced = table in WITH_POLICY
    if forced:
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    value = f"replace({column}::text, '{old}', '{new}')::jsonb"
    op.execute(f"UPDATE {table} SET {column} = {value} WHERE {column}::text LIKE '%{old}%'")  # noqa: S608
    if forced:
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
