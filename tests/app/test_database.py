"""The API's transactions: how many a request takes, and that none stays open."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from app.database import Database
from core.db import session as sessions
from core.domain.errors import Unavailable
from core.domain.keys import make_api_key
from tests.app.conftest import LiveApi, with_scopes
from tests.app.factory import submit

MORE_THAN_THE_POOL = 25


@contextmanager
def noting_statements(api: LiveApi) -> Iterator[list[str]]:
    engine, statements = api.services.database._engine.sync_engine, []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    def begin(_connection: object) -> None:
        statements.append("BEGIN")

    sa.event.listen(engine, "before_cursor_execute", note)
    sa.event.listen(engine, "begin", begin)
    try:
        yield statements
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
        sa.event.remove(engine, "begin", begin)


def count_used(api: LiveApi) -> int:
    pool = api.services.database._engine.pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout()


def test_a_get_finds_its_caller_and_its_row_in_one_transaction(api: LiveApi) -> None:
    job = submit(api)
    api.client.post(f"/jobs/{job['id']}/cancel")
    with noting_statements(api) as statements:
        assert api.client.get(f"/jobs/{job['id']}").status_code == 200
    assert len(statements) == 3
    begin, act, read = statements
    assert (begin, "act_by_key" in act, "FROM jobs" in read) == ("BEGIN", True, True)


@pytest.mark.parametrize("path", ["/jobs/job_none", "/jobs?limit=0", "/nowhere", "/keys"])
def test_a_refused_request_gives_its_connection_back(api: LiveApi, path: str) -> None:
    with with_scopes(api, "read") as reader:
        for _ in range(MORE_THAN_THE_POOL):
            assert reader.client.get(path).status_code in {403, 404, 422}
    assert count_used(api) == 0


def test_an_unknown_key_gives_its_connection_back(api: LiveApi) -> None:
    headers = {"Authorization": f"Bearer {make_api_key()}"}
    assert httpx.get(f"{api.url}/jobs", headers=headers).status_code == 401
    assert count_used(api) == 0


def test_work_that_nobody_awaits_any_more_closes_its_transaction(database_url: str) -> None:
    async def abandon() -> int:
        database = Database(database_url)
        sleeping = sa.text("SELECT pg_sleep(0.3)")
        opening = asyncio.create_task(database.open(lambda session: session.execute(sleeping).scalar_one()))
        await asyncio.sleep(0.1)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await asyncio.wait(database._tasks)
        pool = database._engine.pool
        assert isinstance(pool, QueuePool)
        left = pool.checkedout()
        await database.close()
        return left

    assert asyncio.run(abandon()) == 0


def test_a_request_that_is_canceled_as_its_transaction_opens_leaves_none(database_url: str) -> None:
    """In the one turn of the loop in which the work has ended, and nobody has heard of it yet."""

    async def abandon() -> int:
        database, kept = Database(database_url), []

        def work(session: Session) -> None:
            kept.append(session)  # so that it is not closed by being forgotten
            session.execute(sa.text("SELECT 1"))
            asyncio.get_running_loop().call_soon(opening.cancel)

        opening = asyncio.create_task(database.open(work))
        with pytest.raises(asyncio.CancelledError):
            await opening
        while database._tasks:
            await asyncio.sleep(0.01)
        pool = database._engine.pool
        assert isinstance(pool, QueuePool)
        left = pool.checkedout()
        await database.close()
        return left

    assert asyncio.run(abandon()) == 0


@pytest.mark.parametrize("idle_seconds", [0.0, 3600.0])
def test_a_connection_that_was_cut_while_idle_is_replaced(
    database_url: str, monkeypatch: pytest.MonkeyPatch, idle_seconds: float
) -> None:
    """At once if it is tried out; else one call fails, and no further one."""
    monkeypatch.setattr(sessions, "IDLE_SECONDS", idle_seconds)

    async def cut_all() -> list[str]:
        database = Database(database_url)
        pid = sa.text("SELECT pg_backend_pid()")

        def ask(session: Session) -> int:
            return int(session.execute(pid).scalar_one())

        await asyncio.gather(*(database.run(ask) for _ in range(3)))
        engine = sa.create_engine(sessions.driver_url(database_url))
        with engine.connect() as other:
            others = "datname = current_database() AND pid <> pg_backend_pid()"
            other.execute(sa.text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))
        engine.dispose()
        outcomes = [await _name_outcome(database.run(ask)) for _ in range(4)]
        await database.close()
        return outcomes

    assert asyncio.run(cut_all()) == (["int"] * 4 if idle_seconds == 0 else ["Unavailable", "int", "int", "int"])


async def _name_outcome(call: Awaitable[object]) -> str:
    try:
        return type(await call).__name__
    except Unavailable as error:
        return type(error).__name__
