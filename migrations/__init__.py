"""The schema's history, by alembic. ``alembic -c migrations/alembic.ini upgrade head`` works from any folder."""

from pathlib import Path

from alembic import command
from alembic.config import Config


def make_config(url: str | None = None, service_role: str | None = None, api_role: str | None = None) -> Config:
    """Alembic's configuration; without ``url`` all comes from DATABASE_OWNER_URL, DATABASE_URL and DATABASE_API_URL.

    ``service_role`` is granted the use of the tables and sees every tenant's rows: the workers'. ``api_role`` uses them
    within row-level security.
    """
    config = Config(Path(__file__).with_name("alembic.ini"))
    config.attributes.update(url=url, service_role=service_role, api_role=api_role)
    return config


def upgrade(url: str | None = None, service_role: str | None = None, api_role: str | None = None) -> None:
    """Brings a database to the newest revision. Two at once are safe: the second waits, and finds nothing to do."""
    command.upgrade(make_config(url, service_role, api_role), "head")
