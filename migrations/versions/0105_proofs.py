"""Load proofs compare updates, and no longer two images: images_match and max_pixel_difference are dropped."""

from alembic import op

revision = "0105"
down_revision = "0104"
branch_labels = None
depends_on = None

STRIPPED = """
(SELECT jsonb_object_agg(format, proof - 'images_match' - 'max_pixel_difference')
 FROM jsonb_each({0}) AS _(format, proof))
"""


def upgrade() -> None:
    for table, column, path in (("adapters", "proofs", "proofs"), ("jobs", "result", "result -> 'proofs'")):
        value = STRIPPED.format(path)
        if column == "result":
            value = f"jsonb_set(result, '{{proofs}}', {value})"
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        op.execute(f"UPDATE {table} SET {column} = {value} WHERE {path} <> '{{}}'")  # noqa: S608
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    """Both are optional in the earlier version."""
