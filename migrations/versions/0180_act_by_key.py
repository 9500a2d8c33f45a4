"""A key's row, and its tenant for the rest of the transaction, in one statement."""

from alembic import op

revision = "0180"
down_revision = "0175"
branch_labels = None
depends_on = None

# With the rights of the caller, so that the policies apply: the hash opens its own row, and only while it is read.
FUNCTION = """
CREATE FUNCTION act_by_key(presented text, operators text) RETURNS SETOF api_keys LANGUAGE plpgsql AS $$
DECLARE
    key api_keys;
BEGIN
    PERFORM set_config('atelier.presented', presented, true);
    SELECT * INTO key FROM api_keys
        WHERE sha256 = presented AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp());
    PERFORM set_config('atelier.presented', '', true);
    IF key.id IS NOT NULL THEN
        PERFORM set_config('atelier.tenant', key.tenant_id, true);
        PERFORM set_config('atelier.operator', CASE WHEN presented = operators THEN 'on' ELSE '' END, true);
        RETURN NEXT key;
    END IF;
END $$
"""


def upgrade() -> None:
    op.execute(FUNCTION)


def downgrade() -> None:
    op.execute("DROP FUNCTION act_by_key(text, text)")
