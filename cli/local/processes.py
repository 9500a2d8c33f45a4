"""The single processes of a fleet. Each command becomes its process: same pid, signals straight to it."""

import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from cli.app import App
from cli.errors import UsageError
from cli.local import programs
from cli.local.devices import slot_of
from cli.local.home import DEFAULT_HOME
from cli.local.up import refuse_plain_http

worker = App(no_args_is_help=True, help="Start one worker.")


def api(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="Port to listen on.")] = 8000,
) -> None:
    """Start the API."""
    refuse_plain_http(host)
    _become(programs.api_command(host, port), _service_environment())


@worker.command("train")
def train_worker(
    device: Annotated[
        str, typer.Option(envvar="ATELIER_DEVICE", metavar="DEVICE", help="cpu, or cuda:0 and so on.")
    ] = "cpu",
    slot: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Number on this machine; by default the GPU's.")
    ] = None,
) -> None:
    """Start a worker that trains, on one device."""
    number = slot_of(device) if slot is None else slot
    env = {**_service_environment(), "ATELIER_DEVICE": device, "ATELIER_SLOT": str(number)}
    _become(programs.train_worker_command(number), env)


@worker.command("cpu")
def cpu_worker() -> None:
    """Start a worker for what needs no GPU: checking datasets, sending webhooks."""
    _become(programs.cpu_worker_command(), _service_environment())


def steward() -> None:
    """Start the steward, which puts lost work back into the queue. Any number may run; one leads."""
    _become(programs.steward_command(), _service_environment())


def migrate() -> None:
    """Bring the database's schema up to date, as DATABASE_OWNER_URL or else DATABASE_URL."""
    url = os.environ.get("DATABASE_OWNER_URL") or os.environ.get("DATABASE_URL")
    if not url:
        raise UsageError("Set DATABASE_URL (or DATABASE_OWNER_URL) to the database that is to be migrated.")
    _become(programs.migrate_command(), {**os.environ, "DATABASE_OWNER_URL": url})


def _service_environment() -> dict[str, str]:
    """Raises UsageError when the process would have no database or broker."""
    if missing := [name for name in ("DATABASE_URL", "REDIS_URL") if not os.environ.get(name)]:
        raise UsageError(f"Set {' and '.join(missing)}, or start everything with `atelier up`.")
    home = Path(os.environ.get("ATELIER_HOME") or DEFAULT_HOME).expanduser().resolve()
    return programs.service_environment(os.environ, home)


def _become(command: tuple[str, ...], env: dict[str, str]) -> NoReturn:
    os.chdir(programs.ROOT)
    os.execve(command[0], command, env)  # noqa: S606
