"""The whole service as processes of the test: each may be killed, frozen or cut off, and is started again as a
supervisor would."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psutil
import redis

import migrations
from cli.local import programs
from cli.local.embedded.postgres import API, APP
from cli.local.home import Home, open_home
from cli.local.ports import probe_port
from cli.local.supervisor.process import RunningProcess, start_process, tail
from cli.local.supervisor.service import Service
from cli.local.tree import is_ready
from core.db.session import make_sessions, open_engine
from core.domain.keys import make_api_key
from core.storage.s3 import open_client
from tests.chaos.proxy import FaultProxy
from tests.fixtures.servers import PostgresHandle, ValkeyHandle, start_postgres, start_valkey, wait_for

BUCKET, PREFIX = "chaos", "store"
RESTART_SECONDS = 0.5
TRAIN_WORKERS = 2


@dataclass(frozen=True)
class Timers:
    """In seconds; the defaults are production's."""

    lease: float = 30.0
    heartbeat: float = 5.0
    sweep: float = 5.0
    ring: float = 15.0
    stall: float = 300.0

    def environment(self) -> dict[str, str]:
        return {
            "ATELIER_LEASE_SECONDS": str(self.lease),
            "ATELIER_HEARTBEAT_SECONDS": str(self.heartbeat),
            "ATELIER_SWEEP_SECONDS": str(self.sweep),
            "ATELIER_RING_SECONDS": str(self.ring),
            "ATELIER_STALL_SECONDS": str(self.stall),
        }


PRODUCTION = Timers()
SCALED = Timers(lease=6, heartbeat=1, sweep=1, ring=2.5, stall=60)


@dataclass
class Kept:
    """A service that is started again ``RESTART_SECONDS`` after its end."""

    service: Service
    process: RunningProcess | None = None
    died_at: float | None = None
    starts: int = 0


@dataclass
class Stack:
    """Start it, keep it and stop it from one thread: its processes die with the thread that started them."""

    folder: Path
    timers: Timers
    num_stewards: int = 2
    home: Home = field(init=False)
    postgres: PostgresHandle = field(init=False)
    valkey: ValkeyHandle = field(init=False)
    proxy: FaultProxy = field(init=False)
    store: Any = field(init=False)
    kept: dict[str, Kept] = field(default_factory=dict)
    api_key: str = field(default_factory=make_api_key, repr=False)
    _ends: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        self.home = open_home(self.folder / "home")
        self.postgres = start_postgres(self.folder)
        self._ends.callback(lambda: self.postgres.stop())
        self.valkey = start_valkey(self.folder)
        self._ends.callback(lambda: self.valkey.stop())
        migrations.upgrade(self.postgres.url_owner, APP, API)
        self._start_store()
        self.api_port = probe_port("127.0.0.1")
        self.engine = open_engine(self.postgres.url_app)
        self._ends.callback(self.engine.dispose)
        self.sessions = make_sessions(self.engine)
        for service in self._services():
            self.kept[service.name] = Kept(service)
        self._ends.callback(self._end_services)
        self.keep()
        wait_for(lambda: self.keep() or is_ready(self.url), 180)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    def stop(self) -> None:
        self._ends.close()

    def _end_services(self) -> None:
        for kept in self.kept.values():
            if kept.process is not None:
                _end_tree(kept.process.pid)
                kept.process.kill()
                kept.process.wait(10)

    # --- keeping ---

    def keep(self) -> None:
        """Starts what is down. Returns at once."""
        now = time.monotonic()
        for kept in self.kept.values():
            if kept.process is not None and kept.process.poll() is not None:
                kept.process, kept.died_at = None, now
            if kept.process is None and now - (kept.died_at or 0.0) >= RESTART_SECONDS:
                kept.process = start_process(kept.service, self.home)
                kept.starts += 1

    def keep_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.keep()
            time.sleep(0.05)

    # --- who is where ---

    def pid_of(self, name: str) -> int | None:
        process = self.kept[name].process
        return None if process is None else process.pid

    def child_of(self, name: str) -> int | None:
        """The process that runs the tasks of a Celery worker."""
        pid = self.pid_of(name)
        if pid is None:
            return None
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(pid).children()
            return children[0].pid if children else None
        return None

    def trainer_of(self, slot: int) -> int | None:
        """The trainer of this slot's worker, if it lives."""
        child = self.child_of(f"train-{slot}")
        if child is None:
            return None
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(child).children():
                if "worker.engine.serve" in process.cmdline():
                    return process.pid
        return None

    def tail(self, name: str, num_lines: int = 30) -> str:
        return tail(self.home.log_file(name), num_lines)

    def flush_broker(self) -> None:
        with redis.Redis.from_url(self.valkey.url) as client:
            client.flushall()

    # --- parts ---

    def _start_store(self) -> None:
        port = probe_port("127.0.0.1")
        service = Service(
            name="store",
            command=(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)),
            env=_passed() | AWS,
        )
        process = start_process(service, self.home)
        self._ends.callback(process.wait, 10)
        self._ends.callback(process.kill)
        session = boto3.session.Session(
            aws_access_key_id=AWS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=AWS["AWS_SECRET_ACCESS_KEY"],
            region_name=AWS["AWS_DEFAULT_REGION"],
        )
        self.store = open_client(session, f"http://127.0.0.1:{port}")
        wait_for(lambda: _answers(self.store), 60)
        self.store.create_bucket(Bucket=BUCKET)
        self.proxy = FaultProxy(port)
        self._ends.callback(self.proxy.close)

    def _services(self) -> Iterator[Service]:
        env, own = self.environment(), {"DATABASE_URL": self.postgres.url_api, "ATELIER_API_KEY": self.api_key}
        yield _service("api", programs.api_command("127.0.0.1", self.api_port), env | own)
        yield _service("cpu", programs.cpu_worker_command(), env)
        for slot in range(TRAIN_WORKERS):
            yield _service(f"train-{slot}", programs.train_worker_command(slot), env | {"ATELIER_SLOT": str(slot)})
        for number in range(self.num_stewards):
            yield _service(f"steward-{number}", programs.steward_command(), env)

    def environment(self) -> dict[str, str]:
        return {
            **_passed(),
            **AWS,
            **self.timers.environment(),
            "DATABASE_URL": self.postgres.url_app,
            "REDIS_URL": self.valkey.url,
            "ATELIER_HOME": str(self.home.path),
            "ATELIER_STORAGE": f"s3://{BUCKET}/{PREFIX}",
            "S3_ENDPOINT_URL": self.proxy.url,
            "ATELIER_DEVICE": "cpu",
            "ATELIER_CPU_THREADS": "1",
            "ATELIER_RATE_PER_MINUTE": "1000000",  # clients here ask without end
            "ATELIER_RATE_BURST": "1000000",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(programs.ROOT),
            "PYTHONUNBUFFERED": "1",
        }


AWS = {
    "AWS_ACCESS_KEY_ID": "atelier-test",
    "AWS_SECRET_ACCESS_KEY": "atelier-test-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def running_stack(folder: Path, timers: Timers) -> Iterator[Stack]:
    stack = Stack(folder, timers)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def send_signal(pid: int, number: signal.Signals) -> bool:
    """False when it was gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _service(name: str, command: tuple[str, ...], env: Mapping[str, str]) -> Service:
    return Service(name=name, command=command, env=env, cwd=programs.ROOT)


def _passed() -> dict[str, str]:
    hidden = ("ATELIER_", "S3_", "AWS_", "DATABASE_", "REDIS_")
    return {key: value for key, value in os.environ.items() if not key.startswith(hidden)}


def _answers(store: Any) -> bool:
    try:
        store.list_buckets()
    except Exception:  # whatever botocore raises while nobody listens yet
        return False
    return True


def _end_tree(pid: int) -> None:
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            send_signal(process.pid, signal.SIGKILL)
