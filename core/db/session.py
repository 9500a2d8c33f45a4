"""Engines and session factories: synchronous for workers, asynchronous for the API."""

import math
import time
from datetime import datetime, timedelta

from pydantic_core import from_json
from sqlalchemy import ColumnElement, Engine, create_engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

CONNECT_TIMEOUT_SECONDS = 5
POOL_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_MS = 30_000
IDLE_SECONDS = 1.0
"""A connection that was idle for longer is tried out before it is used again."""
_USED_AT = "used_at"

_CONNECT_ARGS = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC",
}


def driver_url(url: str) -> str:
    """Any postgres:// address as SQLAlchemy's psycopg 3 dialect, the only one there is."""
    return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def open_engine(url: str, *, pool_size: int = 4) -> Engine:
    return create_engine(
        driver_url(url),
        pool_pre_ping=True,
        pool_size=pool_size,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        hide_parameters=True,  # secrets are among them, and errors are logged
        connect_args=_CONNECT_ARGS,
    )


def open_async_engine(url: str, *, pool_size: int = 20) -> AsyncEngine:
    """Connections stay open: to make one costs more than a request. The one used last is the next, so that few are in
    use, with the statements prepared in them."""
    engine = create_async_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_use_lifo=True,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        hide_parameters=True,
        json_deserializer=from_json,  # takes about half of the time of the standard library's
        connect_args=_CONNECT_ARGS,
    )
    _try_out_idle_connections(engine.sync_engine)
    return engine


def _try_out_idle_connections(engine: Engine) -> None:
    """As ``pool_pre_ping``, which asks the server before each transaction. The first failure of a connection in use
    makes the pool replace all."""

    @event.listens_for(engine, "checkin")
    def note(_connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info[_USED_AT] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def try_out(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        if time.monotonic() - record.info.get(_USED_AT, math.inf) > IDLE_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise InvalidatePoolError from error


def make_sessions(engine: Engine) -> sessionmaker[Session]:
    return sessionmaker(engine, expire_on_commit=False)


def make_async_sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine, expire_on_commit=False)


def read_clock(session: Session) -> datetime:
    """The database's clock, which all times compared with it must use."""
    moment: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return moment


def from_now(seconds: float) -> ColumnElement[datetime]:
    """A time to write, by the database's clock."""
    return func.clock_timestamp() + timedelta(seconds=seconds)
