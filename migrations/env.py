"""Runs the revisions over DATABASE_OWNER_URL, or DATABASE_URL where one role does everything.

A session lock lets one migration run at a time. Where the owner is not the service's role, that role is
granted the use of the tables afterwards, and the ownership of none. So is the role of DATABASE_API_URL, which alone
stays within row-level security: without it the API uses the workers' role, and only its queries keep tenants apart.
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
    """The workers' role; the owner where one role does everything."""
    given = context.config.attributes
    if given.get("url"):
        return given.get("service_role") or make_url(given["url"]).username
    return make_url(os.environ.get("DATABASE_URL") or find_url()).username


def find_api_role() -> str | None:
    """The API's own role, if it has one."""
    given = context.config.attributes
    if given.get("url"):
        return given.get("api_role")
    return make_url(os.environ.get("DATABASE_API_URL") or "postgresql://").username


def grant_use(connection: sa.Connection, role: str) -> None:
    """Lets ``role`` read and write the tables; it may neither change their shape nor touch alembic's own."""
    name = connection.dialect.identifier_preparer.quote(role)
    for statement in (
        f"GRANT USAGE ON SCHEMA public TO {name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}",
        f"REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {name}",
    ):
        connection.execute(sa.text(statement))


# Tables that were secured since the last time, and those where the policy still names another role.
UNOPENED = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relrowsecurity AND NOT EXISTS (
    SELECT FROM pg_policies WHERE schemaname = 'public' AND tablename = relname AND policyname = 'every_tenant'
    AND roles = ARRAY[:role]::name[])
ORDER BY relname
"""


def open_every_tenant(connection: sa.Connection, role: str) -> None:
    """Workers train, check and send for all tenants: row-level security lets their role see every row."""
    quote = connection.dialect.identifier_preparer.quote
    for table in connection.execute(sa.text(UNOPENED), {"role": role}).scalars().all():
        connection.execute(sa.text(f"DROP POLICY IF EXISTS every_tenant ON {quote(table)}"))
        policy = f"CREATE POLICY every_tenant ON {quote(table)} TO {quote(role)} USING (true) WITH CHECK (true)"
        connection.execute(sa.text(policy))


def set_rights(connection: sa.Connection) -> None:
    service, api, owner = find_service_role(), find_api_role(), make_url(find_url()).username
    for role in {service, api} - {None, owner}:
        assert role is not None
        grant_use(connection, role)
    if service is not None:
        open_every_tenant(connection, service)


def run_online() -> None:
    engine = sa.create_engine(driver_url(find_url()), poolclass=sa.NullPool)
    with engine.connect() as connection:
        # Of the session, not of the transaction: a revision may need several transactions.
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
        connection.commit()
        context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
        with context.begin_transaction():
            context.run_migrations()
            set_rights(connection)
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
