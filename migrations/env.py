"""Runs the revisions over DATABASE_OWNER_URL, or DATABASE_URL where one role does everything.

A session lock lets one migration run at a time. Where the owner is not the service's role, that role is
granted the use of the tables afterwards, and the ownership of none.
"""

import logging
import os

import sqlalchemy as sa
from alembic import context
from sqlalchemy.engine import make_url

from core.db.session import driver_url
from core.db.tables import Base

LOCK_KEY = 0x41746C6965720001  # "Atlier" and a counter: any constant that nobody else in this database uses


def find_url() -> str:
    url = context.config.attributes.get("url") or os.environ.get("DATABASE_OWNER_URL") or os.environ.get("DATABASE_URL")
    if not url:
        raise SystemExit("Set DATABASE_URL (or DATABASE_OWNER_URL) to the PostgreSQL database to migrate.")
    return str(url)


def find_service_role() -> str | None:
    """The role that uses the tables without owning them, if there is one."""
    given = context.config.attributes
    if given.get("url") or "DATABASE_OWNER_URL" not in os.environ:
        return given.get("service_role")
    role = make_url(os.environ.get("DATABASE_URL", "postgresql://")).username
    return role if role != make_url(find_url()).username else None


def grant_use(connection: sa.Connection, role: str) -> None:
    """Lets ``role`` read and write the tables; it may neither change their shape nor touch alembic's own."""
    name = connection.dialect.identifier_preparer.quote(role)
    for statement in (
        f"GRANT USAGE ON SCHEMA public TO {name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}",
        f"REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {name}",
    ):
        connection.execute(sa.text(statement))


def run_online() -> None:
    engine = sa.create_engine(driver_url(find_url()), poolclass=sa.NullPool)
    with engine.connect() as connection:
        # Of the session, not of the transaction: a revision may need several transactions.
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
        connection.commit()
        context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
        with context.begin_transaction():
            context.run_migrations()
            if role := find_service_role():
                grant_use(connection, role)
    engine.dispose()


def run_offline() -> None:
    context.configure(url=driver_url(find_url()), target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.config.cmd_opts is not None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")

if context.is_offline_mode():
    run_offline()
else:
    run_online()
