"""`atelier up`: the whole service on one machine, in the foreground."""

import ipaddress
import json
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import httpx
import typer

from cli.durations import format_age
from cli.errors import UsageError
from cli.invocation import hint
from cli.local.devices import choose_devices, warn_of_busy_cores
from cli.local.home import DEFAULT_HOME, Home, ensure_admin_key, lock_home, open_home
from cli.local.ports import probe_port
from cli.local.programs import ROOT, service_environment
from cli.local.supervisor.supervisor import run_tree
from cli.local.tree import TreePlan, build_tree, open_local_client

ALLOW_HTTP_VARIABLE = "ATELIER_ALLOW_HTTP"

log = logging.getLogger("atelier.supervisor")


def up(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Port to listen on; 0 picks a free one.")
    ] = 8000,
    home: Annotated[
        Path, typer.Option(envvar="ATELIER_HOME", metavar="DIR", help="Folder for everything it keeps.")
    ] = DEFAULT_HOME,
    train_workers: Annotated[
        int, typer.Option(min=1, metavar="N", help="Workers that train; with GPUs, one on each.")
    ] = 1,
) -> None:
    """Start the whole service on this machine and keep it up until Ctrl-C."""
    refuse_plain_http(host)
    os.umask(0o077)  # only the owner may read what the processes write in the home
    devices = tuple(choose_devices(train_workers, os.environ))
    if not home.expanduser().exists():
        choose_port(host, port)  # a start that must fail leaves no new home behind
    opened = open_home(home)
    with lock_home(opened):
        _log_to(opened)
        port = choose_port(host, port)
        plan = TreePlan(host, port, local_url(host, port), devices, ensure_admin_key(opened))
        if warning := warn_of_busy_cores(devices, os.environ):
            log.warning(warning)
        stages = build_tree(opened, plan, os.environ)
        try:
            code = run_tree(opened, stages, on_up=lambda: _welcome(opened, plan))
        finally:
            opened.address_file.unlink(missing_ok=True)
        raise typer.Exit(code)


def refuse_plain_http(host: str) -> None:
    """Raises UsageError for an address that others can reach, unless the operator has allowed it."""
    if is_loopback(host) or os.environ.get(ALLOW_HTTP_VARIABLE) == "1":
        return
    raise UsageError(
        f"Refusing to listen on {host}: other machines can reach it, and keys and images would cross the network "
        f"unencrypted. Put a proxy with TLS in front of 127.0.0.1, or set {ALLOW_HTTP_VARIABLE}=1 to allow it."
    )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: what it resolves to today says nothing about tomorrow
        return False


def choose_port(host: str, port: int) -> int:
    """Raises UsageError if the port cannot be bound."""
    try:
        return probe_port(host, port)
    except OSError as error:
        why = f"Cannot listen on {host}, port {port}: {error.strerror}."
        raise UsageError(f"{why} Choose another with --port, or --port 0 for a free one.") from error


def local_url(host: str, port: int) -> str:
    """Where this machine reaches an API that listens on ``host``."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _log_to(home: Home) -> None:
    formatter = logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for handler in (logging.StreamHandler(sys.stderr), logging.FileHandler(home.log_file("supervisor"))):
        handler.setFormatter(formatter)
        log.addHandler(handler)
    log.setLevel(logging.INFO)


def _welcome(home: Home, plan: TreePlan) -> None:
    models = service_environment(os.environ, home.path).get("ATELIER_MODELS") or str(home.path / "models")
    home.address_file.write_text(json.dumps({"url": plan.url, "models": models}))
    if not is_loopback(plan.host):
        typer.echo(f"Warning: it listens on {plan.host} without TLS, so keys and images cross the network unencrypted.")
    url, seconds = make_login_link(plan.url, plan.api_key)
    lifetime = (
        f"this link works once, within {format_age(seconds)}; a new one: {hint('login')}" if seconds else hint("login")
    )
    typer.echo(f"\nAtelier is up at {plan.url}")
    typer.echo(f"Dashboard: {url}\n  ({lifetime})")
    typer.echo(f"Admin key: {home.admin_key_file}")
    typer.echo("Next, from another terminal:")
    if home.path != DEFAULT_HOME.resolve():
        typer.echo(f"  export ATELIER_HOME={shlex.quote(str(home.path))}")
    typer.echo(f"  {suggest_training(ROOT / 'examples' / 'blip')}")
    typer.echo("Ctrl-C stops it.\n")
    sys.stdout.flush()


def suggest_training(example: Path) -> str:
    """On the example set, if there is one here; else with a placeholder."""
    if not example.is_dir():
        return f"{hint('train', 'FOLDER', '--trigger', 'WORDS')}   (FOLDER: your images)"
    shown = example.relative_to(Path.cwd()) if example.is_relative_to(Path.cwd()) else example
    return hint("train", str(shown), "--trigger", "blip")


def make_login_link(url: str, api_key: str) -> tuple[str, float]:
    """An address with a token that the dashboard takes once, and for how many seconds; without one, 0 seconds and a
    warning when the API gives none."""
    try:
        headers = {"Authorization": f"Bearer {api_key}"}
        answer = open_local_client().post(f"{url}/ui/tokens", headers=headers, timeout=30)
        answer.raise_for_status()
        made = answer.json()
        return f"{url}/ui/login?token={made['token']}", float(made["expires_in_seconds"])
    except (httpx.HTTPError, ValueError, KeyError) as error:
        log.warning("no login link: %s", error)
        return f"{url}/ui", 0.0
