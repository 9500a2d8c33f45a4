"""A service that does nothing but tell a journal what happens to it; run as a script.

standin.py NAME JOURNAL [--once] [--fail] [--ignore-term] [--brief] [--children]
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

LAUNCH = Path(__file__).parents[3] / "cli/local/supervisor/launch.py"


def main(name: str, journal: str, *flags: str) -> None:
    def note(event: str, pid: int) -> None:
        with Path(journal).open("a") as file:
            file.write(f"{name} {event} {pid}\n")

    def stop(number: int, frame: object) -> None:
        note("stop", os.getpid())
        sys.exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if "--ignore-term" in flags else stop)
    if "--children" in flags:
        note("grandchild", start_bound_grandchild())
        note("daemon", start_daemon())
    note("start", os.getpid())
    if "--fail" in flags:
        sys.exit("the last words of " + name)
    while "--once" not in flags:
        time.sleep(3600)


def start_bound_grandchild() -> int:
    """In a session of its own, with the kernel's promise to kill it when its parent dies."""
    command = [sys.executable, str(LAUNCH), str(os.getpid()), str(int(signal.SIGKILL)), "-", "/bin/sleep", "3600"]
    return subprocess.Popen(command, start_new_session=True).pid


def start_daemon() -> int:
    """In a session of its own, with a parent that is gone: nothing but its environment ties it to the tree."""
    shell = "sleep 3600 >/dev/null 2>&1 & echo $!"
    return int(subprocess.run(["/bin/sh", "-c", shell], start_new_session=True, capture_output=True).stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
