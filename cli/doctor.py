"""`atelier doctor`: whether this machine can run Atelier, part by part."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psycopg
import redis
import typer
from rich.console import Console
from rich.table import Column, Table

from cli.embedded.binaries import find_postgres, find_valkey
from cli.embedded.place import Place
from cli.errors import CommandError
from cli.home import DEFAULT_HOME
from cli.reporting import printable

MIN_FREE_BYTES = 2 * 1024**3
TIMEOUT_SECONDS = 5
TORCH_TIMEOUT_SECONDS = 120

# In a process of its own: this one never loads torch.
_ASK_TORCH = """
import torch
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(torch.__version__, "on", ", ".join(names) or "the CPU")
"""


@dataclass(frozen=True)
class Finding:
    part: str
    is_fine: bool
    detail: str


def doctor(
    home: Annotated[Path, typer.Option(envvar="ATELIER_HOME", help="The home to look at.")] = DEFAULT_HOME,
) -> None:
    """Check this machine and its settings; exit with 1 if something is wrong."""
    findings = examine(home.expanduser().resolve())
    table = Table("part", "", Column("found", overflow="fold"), box=None)
    for finding in findings:
        table.add_row(finding.part, "ok" if finding.is_fine else "[red]problem[/red]", printable(finding.detail))
    Console().print(table)
    if not all(finding.is_fine for finding in findings):
        raise typer.Exit(1)


def examine(home: Path) -> list[Finding]:
    checks: dict[str, Callable[[], str]] = {
        "python": lambda: sys.version.split()[0],
        "torch": _check_torch,
        "home": lambda: _check_home(home),
        "disk": lambda: _check_disk(home),
        "database": _check_database,
        "broker": _check_broker,
        "storage": lambda: _check_storage(home),
    }
    return [_examine_part(part, check) for part, check in checks.items()]


def _examine_part(part: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(part, True, check())
    except CommandError as error:
        return Finding(part, False, error.message)
    except (OSError, subprocess.SubprocessError, psycopg.Error, redis.RedisError) as error:
        return Finding(part, False, str(error).strip())


def _check_torch() -> str:
    result = subprocess.run(
        [sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=TORCH_TIMEOUT_SECONDS, check=False
    )
    if result.returncode != 0:
        last_line = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise CommandError(f"cannot be imported ({last_line}); install `atelier[train]` to train here")
    return result.stdout.strip()


def _check_home(home: Path) -> str:
    place = _existing(home)
    if not os.access(place, os.W_OK | os.X_OK):
        raise CommandError(f"{place} is not writable by this user")
    return str(home) if place == home else f"{home} (will be made)"


def _check_disk(home: Path) -> str:
    free = shutil.disk_usage(_existing(home)).free
    if free < MIN_FREE_BYTES:
        raise CommandError(f"{free / 1024**3:.1f} GiB free; a base model and its jobs want more than 2")
    return f"{free / 1024**3:.0f} GiB free"


def _existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def _check_database() -> str:
    url = os.environ.get("DATABASE_URL")
    if not url:
        return f"embedded: {find_postgres(_any_place()).postgres}"
    # libpq knows nothing of SQLAlchemy's driver names
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
        except redis.ResponseError:  # hosted ones do not tell
            return "answers; see to it yourself that its maxmemory-policy is noeviction"
    if policy != "noeviction":
        raise CommandError(f"maxmemory-policy is {policy}: queues can be dropped; set it to noeviction")
    return "answers"


def _any_place() -> Place:
    # Without an account: only a start copies programs to where root's account reaches them.
    return Place(None, Path("/"), "doctor")


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
