"""The command lines of Atelier's processes: what `atelier up` starts and what the single commands become."""

import sys
from collections.abc import Mapping
from pathlib import Path

import cli

ROOT = Path(cli.__file__).resolve().parent.parent
"""The folder that holds the packages. Processes start in it, so that no other `app` or `worker` is found."""

ALEMBIC_CONFIG = ROOT / "migrations" / "alembic.ini"
GRACEFUL_SHUTDOWN_SECONDS = 10  # an open event stream would delay the API's stop for ever


def service_environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """The environment of a process. Paths are absolute, because processes do not start in the caller's folder."""
    storage = environ.get("ATELIER_STORAGE") or str(home / "storage")
    paths = {"ATELIER_HOME": str(home), "ATELIER_STORAGE": storage if "://" in storage else _absolute(storage)}
    if models := environ.get("ATELIER_MODELS"):
        paths["ATELIER_MODELS"] = _absolute(models)
    return {**environ, **paths}


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def api_command(host: str, port: int) -> tuple[str, ...]:
    return (
        sys.executable, "-m", "uvicorn", "app.main:app", "--host", host, "--port", str(port), "--no-access-log",
        "--no-server-header", "--timeout-graceful-shutdown", str(GRACEFUL_SHUTDOWN_SECONDS),
    )  # fmt: skip


def train_worker_command(slot: int) -> tuple[str, ...]:
    return _worker_command("train", f"train-{slot}")


def cpu_worker_command() -> tuple[str, ...]:
    return _worker_command("cpu", "cpu")


def _worker_command(queue: str, name: str) -> tuple[str, ...]:
    return (
        sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker", "-Q", queue, "-P", "prefork", "-c", "1",
        "-n", f"{name}@%h", "--without-mingle", "--without-gossip", "--loglevel", "INFO",
    )  # fmt: skip


def steward_command() -> tuple[str, ...]:
    return (sys.executable, "-m", "worker.steward")


def migrate_command() -> tuple[str, ...]:
    return (sys.executable, "-m", "alembic", "-c", str(ALEMBIC_CONFIG), "upgrade", "head")
