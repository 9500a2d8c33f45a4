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

from cli.devices import choose_devices
from cli.errors import UsageError
from cli.home import DEFAULT_HOME, Home, ensure_admin_key, lock_home, open_home
from cli.ports import probe_port
from cli.supervisor.supervisor import run_tree
from cli.tree import TreePlan, build_tree, open_local_client

ALLOW_HTTP_VARIABLE = "ATELIER_ALLOW_HTTP"

log = logging.getLogger("atelier.supervisor")


def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8000,
    home: Annotated[Path, typer.Option(envvar="ATELIER_HOME", help="Folder for everything it keeps.")] = DEFAULT_HOME,
    train_workers: Annotated[int, typer.Option(min=1, help="Workers that train; with GPUs, one on each.")] = 1,
) -> None:
    """Start the whole service on this machine and keep it up until Ctrl-C."""
    refuse_plain_http(host)
    os.umask(0o077)  # whatever any process makes in the home is its owner's alone
    opened = open_home(home)
    with lock_home(opened):
        _log_to(opened)
        port = choose_port(host, port)
        devices = tuple(choose_devices(train_workers, os.environ))
        plan = TreePlan(host, port, local_url(host, port), devices, ensure_admin_key(opened))
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
    """Raises UsageError when the port cannot be had."""
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
    home.address_file.write_text(json.dumps({"url": plan.url}))
    if not is_loopback(plan.host):
        typer.echo(f"Warning: it listens on {plan.host} without TLS, so keys and images cross the network unencrypted.")
    typer.echo(f"\nAtelier is up at {plan.url}")
    typer.echo(f"Dashboard (this link works once): {make_login_link(plan.url, plan.api_key)}")
    typer.echo(f"Admin key: {home.admin_key_file}")
    if home.path != DEFAULT_HOME.resolve():
        typer.echo(f"Other commands find it by: export ATELIER_HOME={shlex.quote(str(home.path))}")
    typer.echo("Ctrl-C stops it.\n")
    sys.stdout.flush()


def make_login_link(url: str, api_key: str) -> str:
    """With a token that the dashboard takes once; without one, and a warning, when the API gives none."""
    try:
        headers = {"Authorization": f"Bearer {api_key}"}
        answer = open_local_client().post(f"{url}/ui/tokens", headers=headers, timeout=30)
        answer.raise_for_status()
        return f"{url}/ui/login?token={answer.json()['token']}"
    except (httpx.HTTPError, ValueError, KeyError) as error:
        log.warning("no login link: %s", error)
        return f"{url}/ui"
