"""Scopes, end and last use of keys; the audit log; row-level security on every table with a tenant's things.

A transaction sees what is of the tenant that it says it acts for (core/db/row_security.py), and without one nothing:
so do the API's role and, because security is forced, the owner. ``migrations/env.py`` lets the workers' role see all.
A later revision that changes rows of these tables says ``ALTER TABLE … NO FORCE ROW LEVEL SECURITY`` before, and FORCE
after.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
TENANT = "current_setting('atelier.tenant', true)"
PRESENTED = "current_setting('atelier.presented', true)"
OPERATOR = "current_setting('atelier.operator', true) = 'on'"

OWN = ("api_keys", "dashboard_tokens", "audit_log", "datasets", "jobs", "adapters", "idempotency_records",
       "webhook_secrets")  # fmt: skip
# The parent is looked up by its primary key, 1 to 2 microseconds a row however many jobs there are. An EXISTS would be
# turned into a hash of all jobs of the tenant: 4 ms and more for a handful of events, once there are 20,000 jobs.
OF_JOBS = ("job_events", "job_metrics", "job_checkpoints", "job_samples", "job_artifacts", "webhooks",
           "webhook_deliveries")  # fmt: skip
POLICIES = {
    **dict.fromkeys(OWN, f"tenant_id = {TENANT}"),
    **{table: f"(SELECT tenant_id FROM jobs WHERE jobs.id = {table}.job_id) = {TENANT}" for table in OF_JOBS},  # noqa: S608
    "dataset_files": f"(SELECT tenant_id FROM datasets WHERE datasets.id = dataset_files.dataset_id) = {TENANT}",  # noqa: S608
    "tenants": f"id = {TENANT} OR {OPERATOR}",
}

GUARD_AUDIT = """
CREATE FUNCTION guard_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only: % refused', TG_OP
        USING ERRCODE = 'check_violation', CONSTRAINT = 'audit_log_append_only';
END $$;
CREATE TRIGGER guard_audit_log BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION guard_audit_log();
CREATE TRIGGER guard_audit_log_truncate BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION guard_audit_log();
"""

DROP_POLICIES = """
DO $$
DECLARE policy record;
BEGIN
    FOR policy IN SELECT policyname, tablename FROM pg_policies WHERE schemaname = 'public' LOOP
        EXECUTE format('DROP POLICY %I ON %I', policy.policyname, policy.tablename);
    END LOOP;
END $$
"""


def upgrade() -> None:
    extend_keys()
    create_audit_log()
    for table, condition in POLICIES.items():
        op.execute(f"CREATE POLICY tenant ON {table} USING ({condition}) WITH CHECK ({condition})")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    # Who knows the secret sees the row of its hash: so a key tells of which tenant it is.
    for table in ("api_keys", "dashboard_tokens"):
        op.execute(f"CREATE POLICY presented ON {table} FOR SELECT USING (sha256 = {PRESENTED})")


def extend_keys() -> None:
    scopes = sa.Column("scopes", JSONB(), server_default=sa.text("""'["read", "jobs"]'::jsonb"""), nullable=False)
    op.add_column("api_keys", scopes)
    op.add_column("api_keys", sa.Column("expires_at", TIME, nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at", TIME, nullable=True))
    op.execute("""UPDATE api_keys SET scopes = '["read", "jobs", "admin"]' WHERE name = 'admin'""")
    op.create_index("ix_api_keys_tenant_id_id", "api_keys", ["tenant_id", "id"])
    op.execute("DELETE FROM dashboard_tokens")  # sessions and links: who was logged in logs in again
    op.add_column("dashboard_tokens", sa.Column("tenant_id", sa.String(), nullable=False))
    op.create_foreign_key("fk_dashboard_tokens_tenant_id_tenants", "dashboard_tokens", "tenants", ["tenant_id"], ["id"])


def create_audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("target_id", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_audit_log_tenant_id_tenants"),
    )
    op.create_index("ix_audit_log_tenant_id_id", "audit_log", ["tenant_id", "id"])
    op.execute(GUARD_AUDIT)


def downgrade() -> None:
    op.execute(DROP_POLICIES)
    for table in POLICIES:
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    op.drop_table("audit_log")
    op.execute("DROP FUNCTION guard_audit_log()")
    op.drop_column("dashboard_tokens", "tenant_id")
    op.drop_index("ix_api_keys_tenant_id_id", "api_keys")
    for column in ("last_used_at", "expires_at", "scopes"):
        op.drop_column("api_keys", column)
