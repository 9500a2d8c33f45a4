"""The home: one folder that holds everything `atelier up` keeps, and who may look into it.

admin.key        the administrator's API key, mode 0600
embedded.json    addresses and passwords of the embedded servers, mode 0600
run/  log/       <role>.pid and <role>.log
storage/ models/ what the service stores
postgres/ valkey/ the embedded servers' data (see ``embedded.place`` for the case of root)
"""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cli.errors import StartError, UsageError
from core.domain.keys import check_api_key_format, make_api_key

DEFAULT_HOME = Path(".atelier")


@dataclass(frozen=True)
class Credentials:
    """What the embedded servers are reached with; made once per home.

    ``home_id`` names this home wherever its path cannot: sockets, root's state folder, process marks.
    ``in_home`` tells whether the servers' data lies in the home; None until the first start decides it.
    """

    home_id: str
    owner_password: str
    app_password: str
    valkey_password: str
    api_password: str
    valkey_port: int | None = None
    in_home: bool | None = None


@dataclass(frozen=True)
class Home:
    path: Path

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def address_file(self) -> Path:
        """Where the API listens, while it does: by this the commands find it."""
        return self.run / "api.json"

    @property
    def admin_key_file(self) -> Path:
        return self.path / "admin.key"

    @property
    def credentials_file(self) -> Path:
        return self.path / "embedded.json"

    def pid_file(self, role: str) -> Path:
        return self.run / f"{role}.pid"

    def log_file(self, role: str) -> Path:
        return self.log / f"{role}.log"


def open_home(path: Path) -> Home:
    """Makes the folder and its parts where they are missing; leaves the modes of what exists alone.

    A new home is closed to others. Root's lets them pass through (not list), so that the unprivileged
    user of the embedded servers reaches its own folder below.

    Raises StartError when the folder cannot be made or written.
    """
    home = Home(path.expanduser().resolve())
    try:
        if not home.path.exists():
            home.path.mkdir(parents=True)
            home.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        for folder in (home.run, home.log, home.path / "storage", home.path / "models"):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StartError(f"The home {home.path} cannot be used: {error.strerror}. Name another with --home.") from error
    if not os.access(home.path, os.W_OK | os.X_OK):
        raise StartError(f"The home {home.path} is not writable by this user. Name another with --home.")
    return home


@contextlib.contextmanager
def lock_home(home: Home) -> Iterator[None]:
    """Holds the home for one `atelier up`. The kernel lets go when the holder dies, however it dies.

    Raises UsageError when another holds it.
    """
    descriptor = os.open(home.run / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(_describe_holder(home, lock.read().strip())) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _describe_holder(home: Home, pid: str) -> str:
    who = f" (process {pid})" if pid else ""
    return f"Atelier is already up in {home.path}{who}. Stop it first, or name another home with --home."


def write_private(path: Path, text: str) -> None:
    """Replaces ``path`` whole or not at all, readable by its owner alone."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_credentials(home: Home) -> Credentials:
    """Raises StartError when the file is there but is not what this program wrote."""
    try:
        known = json.loads(home.credentials_file.read_text())
        credentials = Credentials(**{"api_password": _make_password(), **known})
    except FileNotFoundError:
        return _make_credentials(home)
    except (ValueError, TypeError) as error:
        raise StartError(f"{home.credentials_file} is damaged ({error}); restore it from a copy.") from error
    if "api_password" not in known:  # the home of a version in which the API had no role of its own
        save_credentials(home, credentials)
    return credentials


def _make_password() -> str:
    """Hexadecimal, because it stands in URLs and configuration files unquoted."""
    return secrets.token_hex(24)


def _make_credentials(home: Home) -> Credentials:
    owner, app, valkey, api = (_make_password() for _ in range(4))
    credentials = Credentials(secrets.token_hex(8), owner, app, valkey, api)
    save_credentials(home, credentials)
    return credentials


def save_credentials(home: Home, credentials: Credentials) -> None:
    write_private(home.credentials_file, json.dumps(asdict(credentials), indent=2) + "\n")


def change_credentials(home: Home, **changes: Any) -> Credentials:
    credentials = replace(load_credentials(home), **changes)
    save_credentials(home, credentials)
    return credentials


def ensure_admin_key(home: Home) -> str:
    """The administrator's key, made at the first start.

    Raises StartError when the file holds something else.
    """
    try:
        key = home.admin_key_file.read_text().strip()
    except FileNotFoundError:
        key = make_api_key()
        write_private(home.admin_key_file, key + "\n")
    if not check_api_key_format(key):
        raise StartError(f"{home.admin_key_file} does not hold an API key; delete it to have a new one made.")
    return key
