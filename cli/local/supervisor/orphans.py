"""Finds what is left of a tree whose supervisor is gone, and ends it.

Every process of a tree carries ``ATELIER_TREE=<home id>`` in its environment, which its children inherit in
whatever session or group they hide. Linux shows the environment of a process in /proc; elsewhere only the
groups of the processes in run/ are found.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cli.local.home import Home

MARK_VARIABLE = "ATELIER_TREE"
KILL_TIMEOUT_SECONDS = 10.0
POSTGRES_TIMEOUT_SECONDS = 20.0


def end_tree(home: Home, home_id: str) -> list[int]:
    """Kills the tree's processes, and shuts PostgreSQL down after them. Returns the pids that it met.

    A killed worker loses nothing: its lease runs out. PostgreSQL's own sessions are left to PostgreSQL.
    """
    others = _end_all(lambda: [pid for pid in find_tree(home, home_id) if not _is_postgres(pid)])
    postgres = _end_postgres(lambda: [pid for pid in find_tree(home, home_id) if _is_postgres(pid)])
    return [*others, *postgres]


def find_tree(home: Home, home_id: str) -> list[int]:
    """The pids of the tree's living processes, without this one."""
    pids = _marked_pids(home_id) if sys.platform == "linux" else _pids_in_files(home)
    return [pid for pid in pids if pid != os.getpid()]


def _marked_pids(home_id: str) -> list[int]:
    mark = f"{MARK_VARIABLE}={home_id}".encode()
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _has(entry, mark)]


def _has(process: Path, mark: bytes) -> bool:
    try:
        return mark in (process / "environ").read_bytes().split(b"\0")
    except OSError:  # gone, or somebody else's
        return False


def _pids_in_files(home: Home) -> list[int]:
    pids = []
    for file in home.run.glob("*.pid"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(file.read_text())
            if os.getpgid(pid) == pid:  # the services lead their groups; a number that was reused hardly does
                pids.append(pid)
    return pids


def _is_postgres(pid: int) -> bool:
    if sys.platform != "linux":
        return False  # its group is killed with the others; it recovers from its log at the next start
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/exe").readlink().name.split()[0] == "postgres"
    return False


def _end_all(find: Callable[[], list[int]]) -> list[int]:
    """Again and again, for a process may start another while it is looked for."""
    met: dict[int, None] = {}
    deadline = time.monotonic() + KILL_TIMEOUT_SECONDS
    while (pids := find()) and time.monotonic() < deadline:
        met |= dict.fromkeys(pids)
        _signal_all(pids, signal.SIGKILL)
        time.sleep(0.05)
    return list(met)


def _end_postgres(find: Callable[[], list[int]]) -> list[int]:
    met = find()
    for number, timeout in ((signal.SIGINT, POSTGRES_TIMEOUT_SECONDS), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        _signal_all(find(), number)
        deadline = time.monotonic() + timeout
        while find() and time.monotonic() < deadline:
            time.sleep(0.05)
    return met


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            if sys.platform == "linux":
                os.kill(pid, number)
            else:
                os.killpg(pid, number)
