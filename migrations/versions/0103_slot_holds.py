"""Who holds which lane of a device slot is a table of its own, in place of jobs.slot."""

import sqlalchemy as sa
from alembic import op

revision = "0103"
down_revision = "0102"
branch_labels = None
depends_on = None

HELD = "('running', 'pausing', 'canceling')"
FILL = f"""
INSERT INTO slot_holds (slot, lane, job_id, attempt)
SELECT slot, 0, id, attempt FROM jobs WHERE status IN {HELD} AND slot IS NOT NULL
"""  # noqa: S608
OWN = "(SELECT tenant_id FROM jobs WHERE jobs.id = slot_holds.job_id) = current_setting('atelier.tenant', true)"


def upgrade() -> None:
    op.create_table(
        "slot_holds",
        sa.Column("slot", sa.String(), nullable=False),
        sa.Column("lane", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("slot", "lane", name="pk_slot_holds"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_slot_holds_job_id_jobs", ondelete="CASCADE"),
    )
    op.create_index("ix_slot_holds_job_id", "slot_holds", ["job_id"])
    op.execute("ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY")
    op.execute(FILL)
    op.execute("ALTER TABLE jobs FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON slot_holds USING ({OWN}) WITH CHECK ({OWN})")
    op.execute("ALTER TABLE slot_holds ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE slot_holds FORCE ROW LEVEL SECURITY")
    op.drop_index("uq_jobs_one_holder_per_slot", "jobs")
    op.drop_column("jobs", "slot")


def downgrade() -> None:
    op.add_column("jobs", sa.Column("slot", sa.String(), nullable=True))
    op.execute("ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE slot_holds NO FORCE ROW LEVEL SECURITY")
    op.execute("UPDATE jobs SET slot = hold.slot FROM slot_holds AS hold WHERE hold.job_id = jobs.id AND hold.lane = 0")
    op.execute("ALTER TABLE jobs FORCE ROW LEVEL SECURITY")
    op.create_index(
        "uq_jobs_one_holder_per_slot", "jobs", ["slot"], unique=True, postgresql_where=sa.text(f"status IN {HELD}")
    )
    op.drop_table("slot_holds")
