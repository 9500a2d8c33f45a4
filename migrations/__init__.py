"""The schema's history, by alembic. ``alembic -c migrations/alembic.ini upgrade head`` works from any folder."""

from pathlib import Path

from alembic import command
from alembic.config import Config


def make_config(url: str | None = None, service_role: str | None = None) -> Config:
    """Alembic's configuration; without ``url`` it is DATABASE_OWNER_URL or DATABASE_URL, and the role DATABASE_URL's.

    ``service_role`` is granted the use of the tables.
    """
    config = Config(Path(__file__).with_name("alembic.ini"))
    config.attributes.update(url=url, service_role=service_role)
    return config


def upgrade(url: str | None = None, service_role: str | None = None) -> None:
    """Brings a database to the newest revision. Two at once are safe: the second waits, and finds nothing to do."""
    command.upgrade(make_config(url, service_role), "head")
