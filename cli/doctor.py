"""`atelier doctor`: whether this machine can run Atelier, part by part, and what runs on it now."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import psycopg
import redis
import typer
from rich.console import Console
from rich.text import Text

from atelier_client import AtelierClient, ClientError
from cli.connection import find_connection, read_running_url
from cli.errors import CommandError
from cli.invocation import hint
from cli.local.devices import count_cores
from cli.local.embedded.binaries import find_postgres, find_valkey
from cli.local.embedded.server_dirs import ServerDirs
from cli.local.home import DEFAULT_HOME
from cli.local.programs import ROOT
from cli.local.tree import open_local_client
from cli.reporting import HumanReporter, printable
from core.domain.counts import counted
from core.model_folders import BUNDLED, CARD

MIN_FREE_BYTES = 2 * 1024**3
TIMEOUT_SECONDS = 5
TORCH_TIMEOUT_SECONDS = 120
MEASURING = "Checking: devices (loading torch and measuring some steps)"

# In a process of its own: this one never loads torch.
EXAMINE_MACHINE = (
    sys.executable,
    "-m",
    "worker.engine.launch",
    "worker.engine.machine",
    str(BUNDLED / "tiny" / "unet"),
)


@dataclass(frozen=True)
class Finding:
    part: str
    is_fine: bool
    detail: str


def doctor(
    home: Annotated[
        Path, typer.Option(envvar="ATELIER_HOME", metavar="DIR", help="The home to look at.")
    ] = DEFAULT_HOME,
) -> None:
    """Check this machine, its settings and the running service; exit with 1 if something is wrong."""
    console = Console(highlight=False, soft_wrap=True)
    reporter = HumanReporter()
    findings = []
    for part, check in list_checks(home.expanduser().resolve()).items():
        with reporter.waiting(MEASURING if part == "devices" else f"Checking: {part}"):
            findings.append(finding := _examine_part(part, check))
        verdict = Text("ok     ", "green") if finding.is_fine else Text("PROBLEM", "bold red")
        console.print(Text.assemble(f"{part:<9} ", verdict, "  ", printable(finding.detail)))
    if not all(finding.is_fine for finding in findings):
        raise typer.Exit(1)


def examine(home: Path) -> list[Finding]:
    return [_examine_part(part, check) for part, check in list_checks(home).items()]


def list_checks(home: Path) -> dict[str, Callable[[], str]]:
    return {
        "python": lambda: sys.version.split()[0],
        "home": lambda: _check_home(home),
        "disk": lambda: _check_disk(home),
        "database": _check_database,
        "broker": _check_broker,
        "storage": lambda: _check_storage(home),
        "service": lambda: _check_service(home),
        "bases": lambda: _check_bases(home),
        "devices": _check_devices,
    }


def _examine_part(part: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(part, True, check())
    except CommandError as error:
        return Finding(part, False, error.message)
    except (OSError, subprocess.SubprocessError, psycopg.Error, redis.RedisError) as error:
        return Finding(part, False, str(error).strip())


def _check_devices() -> str:
    """Torch, what it trains on, in which precision, and how fast."""
    env = {
        **os.environ,
        "OMP_WAIT_POLICY": "PASSIVE",
    }  # so as not to slow down a training
    result = subprocess.run(
        EXAMINE_MACHINE, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TORCH_TIMEOUT_SECONDS, check=False
    )
    if result.returncode != 0:
        last_line = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise CommandError(f"torch cannot be used ({last_line}); install `atelier[train]` to train here")
    report = json.loads(result.stdout)
    devices = "; ".join(
        f"{device['device']}: {device['name']}, {device['memory_bytes'] / 1024**3:.0f} GiB, {device['precision']}, "
        f"{device['seconds_per_image']:.3g} s an image and step on tiny's U-Net"
        for device in report["devices"]
    )
    threads = counted(report["cpu_threads"], "CPU thread")
    return f"torch {report['torch_version']} with {threads}; {devices}{_describe_load()}"


def _describe_load() -> str:
    """Where others slowed the measurement down."""
    load, cores = os.getloadavg()[0], count_cores()
    return f" (measured on a busy machine: a load of {load:.1f} on {counted(cores, 'core')})" if load > cores else ""


def _check_service(home: Path) -> str:
    """One that should be up and is not is a problem; none at all is not."""
    connection = find_connection({**os.environ, "ATELIER_HOME": str(home)})
    is_expected = bool(os.environ.get("ATELIER_URL") or read_running_url(home))
    try:
        answer = open_local_client().get(f"{connection.url}/readyz", timeout=TIMEOUT_SECONDS)
        checks = answer.json()["checks"]
    except (OSError, ValueError, KeyError, TypeError, httpx.HTTPError) as error:
        if is_expected:
            raise CommandError(f"nothing answers at {connection.url} ({error}); start it: {hint('up')}") from error
        return f"not running in this home; start it: {hint('up')}"
    if failing := [f"{name}: {state}" for name, state in checks.items() if state != "ok"]:
        raise CommandError(f"up at {connection.url}, but not ready: {', '.join(failing)}")
    return f"up at {connection.url}"


def _check_bases(home: Path) -> str:
    """As the running service knows them; else what lies prepared in the folders that it will look through."""
    connection = find_connection({**os.environ, "ATELIER_HOME": str(home)})
    try:
        with AtelierClient(connection.url, connection.api_key) as client:
            models = list(client.list_models())
    except ClientError:
        return f"{', '.join(_list_prepared(home)) or 'none'} (prepared; the service was not asked)"
    ready = [model.id for model in models if model.status == "ready"]
    others = [f"{model.id} is {model.status}" for model in models if model.status != "ready"]
    if not ready:
        raise CommandError(f"none is ready; add one: {hint('models', 'add', 'PATH')}")
    return "; ".join([f"ready: {', '.join(ready)}", *others])


def _list_prepared(home: Path) -> list[str]:
    models_path = Path(os.environ.get("ATELIER_MODELS") or home / "models").expanduser()
    return sorted({card.parent.name for root in (BUNDLED, models_path) for card in root.glob(f"[!.]*/{CARD}")})


def _check_home(home: Path) -> str:
    place = _existing(home)
    if not os.access(place, os.W_OK | os.X_OK):
        raise CommandError(f"{place} is not writable by this user")
    return str(home) if place == home else f"{home} (will be made)"


def _check_disk(home: Path) -> str:
    free = shutil.disk_usage(_existing(home)).free
    if free < MIN_FREE_BYTES:
        raise CommandError(f"{free / 1024**3:.1f} GiB free; a base and its jobs need more than 2")
    return f"{free / 1024**3:.0f} GiB free"


def _existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def _check_database() -> str:
    url = os.environ.get("DATABASE_URL")
    if not url:
        return f"embedded: {find_postgres(_any_place()).postgres}"
    # libpq does not know SQLAlchemy's driver names
    with psycopg.connect(url.replace("+psycopg", "", 1), connect_timeout=TIMEOUT_SECONDS) as connection:
        return f"PostgreSQL {connection.info.server_version // 10000} answers"


def _check_broker() -> str:
    url = os.environ.get("REDIS_URL")
    if not url:
        return f"embedded: {find_valkey(_any_place())}"
    with redis.Redis.from_url(url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS) as client:
        client.ping()
        try:
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy")
        except redis.ResponseError:  # hosted servers do not say
            return "answers; make sure yourself that its maxmemory-policy is noeviction"
    if policy != "noeviction":
        raise CommandError(f"maxmemory-policy is {policy}: queues can be dropped; set it to noeviction")
    return "answers"


def _any_place() -> ServerDirs:
    # Without an account: only a start copies programs to where root's account reaches them.
    return ServerDirs(None, Path("/"), "doctor")


def _check_storage(home: Path) -> str:
    location = os.environ.get("ATELIER_STORAGE") or str(home / "storage")
    if location.startswith("s3://"):
        return _check_bucket(location)
    place = _existing(Path(location).expanduser().resolve())
    if not os.access(place, os.W_OK | os.X_OK):
        raise CommandError(f"{place} is not writable by this user")
    return location


def _check_bucket(location: str) -> str:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket = location.removeprefix("s3://").partition("/")[0]
    client = boto3.client("s3", endpoint_url=os.environ.get("S3_ENDPOINT_URL"))
    try:
        client.head_bucket(Bucket=bucket)
    except (BotoCoreError, ClientError) as error:
        raise CommandError(f"bucket {bucket}: {error}") from error
    return f"bucket {bucket} answers"
