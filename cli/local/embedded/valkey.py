"""Valkey as our own child, on a loopback port with a password. Celery's broker and the live progress.

TCP rather than a socket: redis-py and kombu spell socket addresses differently, and REDIS_URL serves both.
"""

from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli.local.embedded.binaries import find_valkey
from cli.local.embedded.server_dirs import ServerDirs
from cli.local.home import Credentials, Home, change_credentials, load_credentials, write_private
from cli.local.ports import probe_port
from cli.local.supervisor.service import Service

HOST = "127.0.0.1"
ONE_TRY = Retry(NoBackoff(), 0)


@dataclass(frozen=True)
class EmbeddedValkey:
    home: Home
    place: ServerDirs
    program: Path
    credentials: Credentials
    port: int

    @property
    def data(self) -> Path:
        return self.place.data / "valkey"

    @property
    def url(self) -> str:
        return f"redis://:{self.credentials.valkey_password}@{HOST}:{self.port}/0"

    def service(self) -> Service:
        return Service(
            name="valkey",
            command=(str(self.program), str(self.data / "valkey.conf")),
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            prepare=self.prepare,
            ready=self.is_ready,
            account=self.place.account,
            stop_timeout_seconds=10,
        )

    def prepare(self) -> None:
        """Writes the configuration: in a file, because everybody can read a command line."""
        data = self.place.make_private(self.data)
        write_private(data / "valkey.conf", self._configuration())
        if self.place.account:
            self.place.account.own(data / "valkey.conf")

    def _configuration(self) -> str:
        settings = {
            "bind": HOST,
            "port": self.port,
            "requirepass": self.credentials.valkey_password,
            "dir": f'"{self.data}"',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",  # an evicting policy may drop whole queues
            "daemonize": "no",
            "set-proc-title": "no",  # it would write over the mark by which the tree's processes are found
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())

    def is_ready(self) -> bool:
        """Also False while it reads its file after a start."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1, socket_connect_timeout=1, retry=ONE_TRY) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def open_valkey(home: Home, place: ServerDirs) -> EmbeddedValkey:
    """On the port of the last time, or another if that one is taken now. Raises StartError without a program."""
    program, credentials = find_valkey(place), load_credentials(home)
    port = _choose_port(credentials.valkey_port)
    if port != credentials.valkey_port:
        credentials = change_credentials(home, valkey_port=port)
    return EmbeddedValkey(home, place, program, credentials, port)


def _choose_port(wanted: int | None) -> int:
    try:
        return probe_port(HOST, wanted or 0)
    except OSError:
        return probe_port(HOST)
