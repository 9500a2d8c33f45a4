"""Describes a process that the supervisor runs."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cli.local.supervisor.account import Account

LAUNCHER = Path(__file__).with_name("launch.py")


@dataclass(frozen=True)
class Service:
    """One process of the tree.

    ``prepare`` runs before each start and may raise CommandError; ``clear_up`` runs once when the whole tree is
    down. ``ready`` is called after each start until it returns True; it returns within a few seconds, and may
    complete the setup once the process listens. ``once`` marks a process that is done when it exits with 0, and is
    not started again.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    prepare: Callable[[], object] = lambda: None
    ready: Callable[[], bool] = lambda: True
    clear_up: Callable[[], object] = lambda: None
    once: bool = False
    account: Account | None = None
    cwd: Path = Path("/")
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    start_timeout_seconds: float = 120.0
    stop_timeout_seconds: float = 30.0


def launcher_command(command: tuple[str, ...], account: Account | None, death_signal: signal.Signals) -> list[str]:
    """The command line that becomes ``command`` as a child of this very process and thread."""
    user = f"{account.uid}:{account.gid}" if account else "-"
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(death_signal)), user]
    return [*launcher, *command]
