"""The worker's end of a trainer: start it, command it, hear it, and kill it as a whole."""

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from worker.device.wire import REPORTS, AnyReport, Message, Ready

log = logging.getLogger("atelier.trainer.handle")


class TrainerDied(Exception):
    """The trainer's process ended without a last word."""

    def __init__(self, exit_code: int | None) -> None:
        how = f"signal {-exit_code}" if exit_code is not None and exit_code < 0 else f"exit code {exit_code}"
        super().__init__(f"the trainer died ({how})")


class TrainerHandle:
    """One trainer process in a session of its own. It stays warm between jobs; its death is no one else's."""

    def __init__(self, *, device: str, slot: int, home: Path, log: Path, env: Mapping[str, str] | None = None) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "worker.engine.serve"),
                    *("--device", device, "--slot", str(slot), "--home", str(home), "--parent", str(os.getpid())),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )
        self.device_name = ""
        self.memory_bytes: int | None = None
        self.warm_model: str | None = None
        self._reports: queue.Queue[AnyReport | None] = queue.Queue()
        assert self._process.stdout is not None
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: Message) -> None:
        """Raises TrainerDied when nobody listens."""
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(message.line())
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise TrainerDied(self._exit_code()) from error

    def receive(self, timeout_seconds: float) -> AnyReport | None:
        """The next report, or None after the time-out. Raises TrainerDied at the end of the pipe."""
        try:
            report = self._reports.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
        if report is None:
            self._reports.put(None)
            raise TrainerDied(self._exit_code())
        if isinstance(report, Ready):
            self.device_name, self.memory_bytes = report.device_name, report.memory_bytes
        return report

    def kill(self) -> None:
        """Ends the whole process group at once, and waits until the kernel has its memory back."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listener.join(timeout=5)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def _exit_code(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=5)
        return None

    def _listen(self, pipe: IO[bytes]) -> None:
        """A line that is no report is as good as a death: whoever talks so cannot be trusted with a device."""
        try:
            for line in pipe:
                self._reports.put(REPORTS.validate_json(line))
        except ValueError:
            log.exception("the trainer %d talks nonsense and is killed", self.pid)
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        finally:
            self._reports.put(None)
