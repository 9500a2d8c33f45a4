"""What stays shut when a query forgets its tenant: PostgreSQL itself, asked as the API's role."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.orm import Session

from app.database import Database, acting
from core.db.row_security import Actor, act_for, present
from core.db.tables import DEFAULT_TENANT, Base
from core.domain.keys import hash_api_key
from tests.app.conftest import LiveApi, as_tenant, make_settings, serve, with_scopes
from tests.app.factory import Worker
from tests.app.world import World, build
from tests.fixtures.database import fresh_database, in_database
from tests.fixtures.servers import PostgresHandle, ValkeyHandle

SHARED = {"models", "captioners", "workers"}
"""Of nobody's: bases and captioners are for all, and of a worker only its own tenant learns which job it runs."""

TABLES = sorted(set(Base.metadata.tables) - SHARED)


@dataclass(frozen=True)
class House:
    """Two tenants with one of everything each, in a database of their own."""

    api: LiveApi
    tenants: tuple[str, str]
    worlds: tuple[World, World]
    key: str

    def ask(self, statement: str, tenant_id: str | None = None, operator: bool = False) -> list[Any]:
        """Through the API's own way to the database. ``tenant_id``: who asks."""
        return self.run(lambda session: list(session.execute(sa.text(statement)).scalars()), tenant_id, operator)

    def run(self, work: Callable[[Session], Any], tenant_id: str | None = None, operator: bool = False) -> Any:
        async def run() -> Any:
            acting.set(Actor(tenant_id, "key_1", "test", operator) if tenant_id else None)
            database = Database(self.api.settings.database_url)
            try:
                return await database.run(work)
            finally:
                await database.close()

        return asyncio.run(run())

    def count_all(self, table: str) -> int:
        with self.api.sessions() as session:
            return session.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one()


@pytest.fixture(scope="module")
def house(
    postgres: PostgresHandle, template_database: str, valkey: ValkeyHandle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """One for all: whatever a test manages to change, it changes for the tenant that may."""
    with fresh_database(postgres, template_database) as name:
        home = tmp_path_factory.mktemp("house")
        settings = make_settings(in_database(postgres.url_api, name), valkey.url, home)
        with (
            serve(settings, in_database(postgres.url_app, name)) as server,
            as_tenant(server) as first,
            as_tenant(server) as second,
        ):
            worlds = []
            for api in (first, second):
                with with_scopes(api, "admin") as admin:
                    worlds.append(build(api, admin))
                waiting = api.client.get("/jobs?status=queued").json()["data"]
                Worker(api, waiting[0]["id"])  # holds a device slot
            yield House(server, (first.tenant_id, second.tenant_id), (worlds[0], worlds[1]), first.api_key)


def test_the_apis_role_owns_nothing_and_is_bound(house: House) -> None:
    role = "SELECT to_jsonb(r) FROM pg_roles r WHERE rolname = current_user"
    (rights,) = house.ask(role)
    assert rights["rolname"] == "atelier_api"
    assert not any(rights[name] for name in ("rolsuper", "rolbypassrls", "rolcreaterole", "rolcreatedb"))
    assert house.ask("SELECT relname FROM pg_class WHERE relowner = current_user::regrole") == []
    assert house.ask("SELECT 1 FROM pg_auth_members WHERE member = current_user::regrole") == []


def test_every_table_but_the_shared_ones_is_secured_and_forced(house: House) -> None:
    secured = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relrowsecurity AND relforcerowsecurity"
    assert sorted(house.ask(secured)) == TABLES


def test_without_a_tenant_there_is_nothing(house: House) -> None:
    for table in TABLES:
        assert house.count_all(table) > 0, f"the test has put nothing into {table}"
        assert house.ask(f"SELECT count(*) FROM {table}") == [0], table


def test_a_tenant_sees_its_own_rows_and_no_others(house: House) -> None:
    for table in TABLES:
        first, second = (
            {json.dumps(row, sort_keys=True) for row in house.ask(f"SELECT to_jsonb(t) FROM {table} t", tenant)}
            for tenant in house.tenants
        )
        assert first and second, f"the test has put nothing into {table}"
        assert first & second == set(), table
        for mine, others in ((first, 1), (second, 0)):
            text = "".join(mine)
            assert house.tenants[others] not in text, table
            assert not [known for known in house.worlds[others].ids if known in text], table


@pytest.mark.parametrize("table", ["jobs", "datasets", "adapters", "api_keys", "job_events", "audit_log"])
def test_nothing_is_changed_or_removed_that_is_not_seen(house: House, table: str) -> None:
    before, (first, second) = house.count_all(table), house.tenants
    own = house.ask(f"SELECT count(*) FROM {table}", first)[0]
    for tenant in (None, "ten_none", ""):
        assert house.ask(f"WITH gone AS (DELETE FROM {table} RETURNING 1) SELECT count(*) FROM gone", tenant) == [0]
    assert house.count_all(table) == before
    assert 0 < own < before
    if table in {"jobs", "datasets", "adapters", "api_keys"}:
        column = "name" if table in {"adapters", "api_keys", "datasets"} else "phase"
        change = f"WITH t AS (UPDATE {table} SET {column} = 'x' RETURNING tenant_id) SELECT DISTINCT tenant_id FROM t"
        assert house.ask(change, second) == [second]


def test_no_row_is_put_into_another_tenant(house: House) -> None:
    first, second = house.tenants
    statements = [
        f"INSERT INTO datasets (id, tenant_id, status) VALUES ('ds_x', '{first}', 'open') RETURNING id",
        f"UPDATE datasets SET tenant_id = '{first}' RETURNING id",
        f"INSERT INTO audit_log (id, tenant_id, key_id, action, target_id, address) "
        f"VALUES ('aud_x', '{first}', 'key_x', 'job.created', 'x', '') RETURNING id",
        f"INSERT INTO job_events (id, job_id, seq, type, attempt, data) "
        f"VALUES ('evt_x', '{house.worlds[0].job}', 99, 'job.notice', 1, '{{}}') RETURNING id",
        f"INSERT INTO dataset_files (id, dataset_id, filename, key, sha256, size) "
        f"VALUES ('f', '{house.worlds[0].open_dataset}', 'b.png', 'k', 's', 1) RETURNING id",
        "INSERT INTO tenants (id, name) VALUES ('ten_x', 'x') RETURNING id",
    ]
    for statement in statements:
        with pytest.raises(ProgrammingError, match="row-level security"):
            house.ask(statement, second)


def test_a_key_opens_its_own_row_and_no_other(house: House) -> None:
    def look(session: Session) -> tuple[int, int]:
        present(session, hash_api_key(house.key))
        keys = session.execute(sa.text("SELECT count(*) FROM api_keys")).scalar_one()
        return keys, session.execute(sa.text("SELECT count(*) FROM jobs")).scalar_one()

    assert house.run(look) == (1, 0)


def test_settings_of_a_transaction_end_with_it(house: House) -> None:
    """A connection goes back to the pool, and serves the next caller."""

    async def ask_in_turn() -> list[int]:
        database = Database(house.api.settings.database_url)
        counts = []
        for tenant in (house.tenants[0], None, house.tenants[1], None):
            acting.set(Actor(tenant, "key_1", "test") if tenant else None)
            count = sa.text("SELECT count(*) FROM jobs WHERE pg_backend_pid() > 0")
            counts.append(await database.run(lambda session: session.execute(count).scalar_one()))  # noqa: B023
        await database.close()
        return counts

    first, nothing, second, again = asyncio.run(ask_in_turn())
    assert (nothing, again) == (0, 0)
    assert min(first, second) > 0


def test_only_the_operator_sees_and_makes_tenants(house: House) -> None:
    assert house.ask("SELECT id FROM tenants", house.tenants[0]) == [house.tenants[0]]
    assert len(house.ask("SELECT id FROM tenants", DEFAULT_TENANT, operator=True)) == 3
    assert house.ask("SELECT DISTINCT tenant_id FROM jobs", DEFAULT_TENANT, operator=True) == []


def test_the_workers_role_sees_all(house: House) -> None:
    with house.api.sessions() as session:
        assert set(session.execute(sa.text("SELECT DISTINCT tenant_id FROM jobs")).scalars()) == set(house.tenants)


def test_a_tenants_rows_are_only_for_whom_the_service_acts(house: House) -> None:
    """The operator, too, acts for one tenant at a time."""

    def move(session: Session) -> list[list[str]]:
        seen = []
        for tenant in house.tenants:
            act_for(session, tenant)
            seen.append(list(session.execute(sa.text("SELECT DISTINCT tenant_id FROM jobs")).scalars()))
        return seen

    assert house.run(move, DEFAULT_TENANT, True) == [[tenant] for tenant in house.tenants]


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log"])
def test_the_audit_log_is_append_only(house: House, statement: str) -> None:
    with pytest.raises(IntegrityError, match="append-only"):
        house.run(lambda session: session.execute(sa.text(statement)), house.tenants[0])
    with house.api.sessions() as session, pytest.raises(IntegrityError, match="append-only"):
        session.execute(sa.text(statement))
