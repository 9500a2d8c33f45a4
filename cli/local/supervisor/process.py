"""One running service: started in a session of its own, with its log, its pid file, and a bounded end."""

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from cli.local.home import Home, load_credentials
from cli.local.supervisor.orphans import MARK_VARIABLE
from cli.local.supervisor.service import Service, launcher_command

MAX_LOG_BYTES = 20 * 1024**2


@dataclass
class RunningProcess:
    service: Service
    popen: subprocess.Popen[bytes]
    pid_file: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def poll(self) -> int | None:
        """The exit code (negative: the signal), or None while it runs. Removes the pid file after the end."""
        code = self.popen.poll()
        if code is not None:
            self.pid_file.unlink(missing_ok=True)
        return code

    def signal(self, number: signal.Signals) -> None:
        """To the process alone: what its children should hear is the service's own affair."""
        self.popen.send_signal(number)

    def kill(self) -> None:
        """To the process and all in its group, also when the process itself is gone already."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self, timeout_seconds: float) -> int | None:
        deadline = time.monotonic() + timeout_seconds
        while (code := self.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return code

    def stop(self) -> None:
        """Asks, waits for ``stop_timeout_seconds``, then kills."""
        self.signal(self.service.stop_signal)
        if self.wait(self.service.stop_timeout_seconds) is None:
            self.kill()
            self.wait(10)


def start_process(service: Service, home: Home) -> RunningProcess:
    """Must be called from a thread that lives as long as the process shall: its death is the parent's death.

    Raises CommandError from the service's ``prepare``.
    """
    service.prepare()
    command = launcher_command(service.command, service.account, service.death_signal)
    log_file = home.log_file(service.name)
    _rotate(log_file)
    with log_file.open("ab") as log:
        popen = subprocess.Popen(
            command, env=_environment(service, home), cwd=service.cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal reaches the supervisor alone
        )  # fmt: skip
    pid_file = home.pid_file(service.name)
    partial = pid_file.with_suffix(".part")  # renamed into place: a reader never sees an empty one
    partial.write_text(f"{popen.pid}\n")
    partial.replace(pid_file)
    return RunningProcess(service, popen, pid_file)


def _environment(service: Service, home: Home) -> dict[str, str]:
    return {**service.env, MARK_VARIABLE: load_credentials(home).home_id}


def tail(log_file: Path, num_lines: int = 20) -> str:
    """The last lines of a log that may be long, be missing, or hold anything."""
    try:
        with log_file.open("rb") as file:
            file.seek(max(0, log_file.stat().st_size - 64 * 1024))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-num_lines:])


def _rotate(log_file: Path) -> None:
    """Keeps one earlier log. A log only grows past the limit while its process runs without a restart."""
    if log_file.exists() and log_file.stat().st_size > MAX_LOG_BYTES:
        log_file.replace(log_file.with_suffix(".log.1"))
