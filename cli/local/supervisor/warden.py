"""Outlives the supervisor by a moment, to end the processes that the supervisor can no longer end.

On Linux the kernel signals the supervisor's direct children when it dies. It signals their children only if they
asked for it, and macOS signals none. The warden waits for a signal to stop, or until its parent is gone, and then
ends every process of the tree that is left, itself last.
"""

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from cli.local.home import Home
from cli.local.supervisor.orphans import MARK_VARIABLE, end_tree
from cli.local.supervisor.service import Service

POLL_SECONDS = 1.0


def warden_service(home: Home, root: Path, env: dict[str, str]) -> Service:
    """The first of a tree to start and the last to stop."""
    return Service(
        name="warden",
        command=(sys.executable, "-m", "cli.local.supervisor.warden", str(home.path)),
        env=env,
        cwd=root,
        death_signal=signal.SIGTERM,
        stop_timeout_seconds=45.0,
    )


class _StopRequested(Exception):
    pass


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _StopRequested


def wait_for_the_end() -> None:
    """Returns after SIGTERM, or (where no signal comes) when the parent is gone."""
    parent = os.getppid()
    signal.signal(signal.SIGTERM, _stop)
    try:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
    except _StopRequested:
        return
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


if __name__ == "__main__":
    wait_for_the_end()
    end_tree(Home(Path(sys.argv[1])), os.environ[MARK_VARIABLE])
