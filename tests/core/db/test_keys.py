"""API keys and the dashboard's tokens, on PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session, sessionmaker

from core.db import keys
from core.db.tables import DEFAULT_TENANT, ApiKey, DashboardToken


@pytest.fixture
def session(sessions: sessionmaker[Session]) -> Iterator[Session]:
    with sessions.begin() as session:
        keys.ensure_admin_key(session, sha256="a" * 64, prefix="atl_1234")
        yield session


def find(session: Session) -> ApiKey:
    key = keys.find_key(session, "a" * 64)
    assert key is not None
    return key


def revoke(session: Session) -> None:
    session.execute(sa.update(ApiKey).values(revoked_at=sa.func.now()))


def test_the_admin_key_is_added_once(session: Session) -> None:
    keys.ensure_admin_key(session, sha256="a" * 64, prefix="atl_1234")
    assert session.scalars(sa.select(ApiKey.sha256)).all() == ["a" * 64]
    assert (find(session).tenant_id, find(session).name) == (DEFAULT_TENANT, "admin")


def test_several_processes_add_it_at_once(sessions: sessionmaker[Session]) -> None:
    def add(_: int) -> None:
        with sessions.begin() as session:
            keys.ensure_admin_key(session, sha256="b" * 64, prefix="atl_1234")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(8)))
    with sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(ApiKey)) == 1


def test_unknown_and_revoked_keys_are_not_found(session: Session) -> None:
    assert keys.find_key(session, "c" * 64) is None
    revoke(session)
    assert keys.find_key(session, "a" * 64) is None


def test_a_token_stands_for_its_key_until_it_runs_out(session: Session) -> None:
    keys.add_token(session, sha256="t" * 64, kind="session", key=find(session), lifetime_seconds=60)
    assert keys.find_token(session, "t" * 64, "session") is find(session)
    assert keys.find_token(session, "t" * 64, "login") is None
    session.execute(sa.update(DashboardToken).values(expires_at=sa.func.clock_timestamp()))
    assert keys.find_token(session, "t" * 64, "session") is None
    keys.add_token(session, sha256="u" * 64, kind="session", key=find(session), lifetime_seconds=60)
    assert session.scalars(sa.select(DashboardToken.sha256)).all() == ["u" * 64]


def test_a_revoked_key_takes_its_tokens_along(session: Session) -> None:
    keys.add_token(session, sha256="t" * 64, kind="session", key=find(session), lifetime_seconds=60)
    revoke(session)
    assert keys.find_token(session, "t" * 64, "session") is None
    assert keys.take_token(session, "t" * 64, "session") is None


def test_a_dropped_token_is_gone(session: Session) -> None:
    keys.add_token(session, sha256="t" * 64, kind="session", key=find(session), lifetime_seconds=60)
    keys.drop_token(session, "t" * 64)
    assert keys.find_token(session, "t" * 64, "session") is None


def test_a_taken_token_is_used_up_by_one_of_many(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        keys.ensure_admin_key(session, sha256="a" * 64, prefix="atl_1234")
        keys.add_token(session, sha256="t" * 64, kind="login", key=find(session), lifetime_seconds=60)

    def take(_: int) -> bool:
        with sessions.begin() as session:
            return keys.take_token(session, "t" * 64, "login") is not None

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(take, range(8))) == 1
