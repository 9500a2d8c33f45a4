"""PostgreSQL as our own child: made once, started in the foreground, reached through a private socket.

- The superuser has no password: PostgreSQL asks the kernel who stands at the other end of the socket, and
  lets in the user who runs Atelier (peer). Everybody else needs a password (scram-sha-256).
- `atelier_owner` owns the database and runs the migrations.
- `atelier_app`, the workers' and the steward's, owns nothing: it may read and write rows of what the owner
  makes, and no more. `atelier_api`, the API's, may do so only within row-level security: a tenant at a time.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from cli.errors import StartError
from cli.local.embedded.binaries import PostgresPrograms, find_postgres
from cli.local.embedded.server_dirs import ServerDirs
from cli.local.home import Credentials, Home, load_credentials
from cli.local.supervisor.service import Service, launcher_command

DATABASE = "atelier"
SUPERUSER = "atelier_superuser"
OWNER = "atelier_owner"
APP = "atelier_app"
API = "atelier_api"

# No process ever gets this number: it is above the largest pid_max of Linux and macOS.
NO_PID = 2**31 - 2

# Nothing of the caller's: PG* variables and locales change what initdb and the server do.
ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}

_ACCESS_RULES = f"""\
# Written anew at every start.
local all {SUPERUSER} peer map=atelier
local all all scram-sha-256
"""


@dataclass(frozen=True)
class EmbeddedPostgres:
    """``settings`` are PostgreSQL's own, by name, over those below."""

    home: Home
    place: ServerDirs
    programs: PostgresPrograms
    credentials: Credentials
    socket_dir: Path
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def data(self) -> Path:
        return self.place.data / "postgres"

    @property
    def app_url(self) -> str:
        return self._url(APP, self.credentials.app_password)

    @property
    def api_url(self) -> str:
        return self._url(API, self.credentials.api_password)

    @property
    def owner_url(self) -> str:
        return self._url(OWNER, self.credentials.owner_password)

    def _url(self, role: str, password: str) -> str:
        return f"postgresql+psycopg://{role}:{password}@/{DATABASE}?host={self.socket_dir}"

    def service(self) -> Service:
        return Service(
            name="postgres",
            command=(str(self.programs.postgres), "-D", str(self.data), *self._options()),
            env=ENVIRONMENT,
            prepare=self.prepare,
            ready=self.provision_if_up,
            clear_up=self.place.remove_socket_dir,
            account=self.place.account,
            stop_signal=signal.SIGINT,  # "fast": ends the sessions, writes a checkpoint
            death_signal=signal.SIGINT,
        )

    def _options(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_dir),
            "unix_socket_permissions": "0700",
            "max_connections": "100",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            # One call before recovery, where the default opens a thousand files: 1 s instead of 10 on a busy disk.
            **({"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}),
            **dict(self.settings),
        }
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def prepare(self) -> None:
        """Makes the cluster if there is none, and clears what a crash has left. Raises StartError."""
        if not self.data.exists():
            self._initialise()
        _check_version(self.data, self.programs)
        self.place.socket_dir()  # emptied: a dead server's socket lock may name a pid that is alive again
        _disown_reused_pid(self.data / "postmaster.pid")
        self._write(self.data / "pg_hba.conf", _ACCESS_RULES)
        user = pwd.getpwuid(os.geteuid()).pw_name
        self._write(self.data / "pg_ident.conf", f'atelier "{user}" {SUPERUSER}\n')

    def _initialise(self) -> None:
        """Builds the cluster beside its place and renames it: half a cluster never bears the name."""
        for leftover in self.place.data.glob(".postgres-*"):
            shutil.rmtree(leftover)
        folder = self.place.make_private(self.place.data / f".postgres-{secrets.token_hex(4)}")
        command = [str(self.programs.initdb), "-D", str(folder), "-U", SUPERUSER, "-E", "UTF8"]
        command += ["--auth-local=peer", "--auth-host=reject", *_initdb_options(self.programs.major_version)]
        command += ["--no-sync"] if ("fsync", "off") in self.settings else []
        result = subprocess.run(
            launcher_command(tuple(command), self.place.account, signal.SIGKILL),
            cwd="/", env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if result.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            raise StartError(f"PostgreSQL's data folder could not be made:\n{result.stdout}{result.stderr}")
        folder.rename(self.data)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        if self.place.account:
            self.place.account.own(path)

    def _connect(self, database: str) -> psycopg.Connection:
        host = str(self.socket_dir)
        return psycopg.connect(host=host, user=SUPERUSER, dbname=database, autocommit=True, connect_timeout=2)

    def provision_if_up(self) -> bool:
        """False while it does not let anybody in yet: starting, or recovering from a crash. Its log says why."""
        try:
            self.provision()
        except psycopg.Error:
            return False
        return True

    def provision(self) -> None:
        """Makes the roles, the database and the rights what they should be; safe to repeat."""
        with self._connect("postgres") as connection:
            _set_role(connection, OWNER, self.credentials.owner_password)
            _set_role(connection, APP, self.credentials.app_password)
            _set_role(connection, API, self.credentials.api_password)
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                _run(connection, "CREATE DATABASE {database} OWNER {owner}")
            _run(connection, "REVOKE ALL ON DATABASE {database}, postgres, template1 FROM PUBLIC")
            _run(connection, "GRANT CONNECT ON DATABASE {database} TO {app}, {api}")
        with self._connect(DATABASE) as connection:
            for statement in _RIGHTS:
                _run(connection, statement)


_RIGHTS: Sequence[str] = (
    "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    "GRANT ALL ON SCHEMA public TO {owner}",
    "GRANT USAGE ON SCHEMA public TO {app}, {api}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT USAGE, SELECT ON SEQUENCES TO {app}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT EXECUTE ON FUNCTIONS TO {app}",
)


def open_postgres(home: Home, place: ServerDirs, settings: tuple[tuple[str, str], ...] = ()) -> EmbeddedPostgres:
    """Raises StartError when there is no PostgreSQL to run."""
    return EmbeddedPostgres(home, place, find_postgres(place), load_credentials(home), place.socket_dir(), settings)


def _initdb_options(major_version: int) -> list[str]:
    """From 17 on: UTF-8 with case folding for every script, whatever the system has. Before: plain bytes' order."""
    if major_version < 17:
        return ["--no-locale"]
    options = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    return [*options, "--sync-method=syncfs"] if sys.platform == "linux" else options


def _check_version(data: Path, programs: PostgresPrograms) -> None:
    made_by, found = int((data / "PG_VERSION").read_text()), programs.major_version
    if made_by != found:
        raise StartError(
            f"The data in {data} was made by PostgreSQL {made_by}, and {programs.postgres} is {found}. Install "
            f"PostgreSQL {made_by} again, or move the data over with pg_upgrade."
        )


def _disown_reused_pid(pid_file: Path) -> None:
    """PostgreSQL will not start while the pid in its pid file is alive, also when, after a crash or in a new
    container, that number now belongs to something else. The caller holds the home and has ended the rest of
    the last run, so the number can only be reused. The other lines stay: by them PostgreSQL finds out
    whether sessions of the dead server still use its memory.
    """
    with contextlib.suppress(FileNotFoundError):
        _, *rest = pid_file.read_text().splitlines(keepends=True)
        pid_file.write_text("".join([f"{NO_PID}\n", *rest]))


def _set_role(connection: psycopg.Connection, role: str, password: str) -> None:
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    # Hashed here, so that no log of the server can hold the password.
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {}"
    connection.execute(sql.SQL("ALTER ROLE {} " + rights).format(sql.Identifier(role), sql.Literal(verifier)))


def _run(connection: psycopg.Connection, statement: str) -> None:
    names = {"database": DATABASE, "owner": OWNER, "app": APP, "api": API}
    connection.execute(sql.SQL(statement).format(**{key: sql.Identifier(name) for key, name in names.items()}))
