"""The worker's side of a trainer process: start it, send it runs, receive their reports, and kill it as a whole."""

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from worker.device.wire import (
    REPORTS,
    DrawSamples,
    Generate,
    Message,
    Ready,
    RunReport,
    RuntimeChosen,
    StopTraining,
    Train,
)

log = logging.getLogger("atelier.trainer_handle")

Reports = queue.Queue[RunReport | None]
"""None: the process has ended."""


class TrainerDied(Exception):
    """The trainer's process ended before the run's final report."""

    def __init__(self, exit_code: int | None) -> None:
        how = f"signal {-exit_code}" if exit_code is not None and exit_code < 0 else f"exit code {exit_code}"
        super().__init__(f"the trainer died ({how})")


class TrainerRun:
    """One run in a trainer."""

    def __init__(self, run_id: str, reports: Reports, trainer: "TrainerHandle") -> None:
        self._run_id, self._reports, self._trainer = run_id, reports, trainer

    def receive(self, timeout_seconds: float) -> RunReport | None:
        """The next report, or None after the time-out. Raises TrainerDied once the process has ended."""
        try:
            report = self._reports.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
        if report is None:
            self._reports.put(None)
            raise TrainerDied(self._trainer.wait_for_exit())
        return report

    def stop(self, *, save: bool) -> None:
        """``save``: leave a checkpoint first. Raises TrainerDied."""
        self._trainer.send(StopTraining(run_id=self._run_id, save=save))

    def draw_samples(self, request_id: str, prompts: Sequence[str], seed: int) -> None:
        """At the training's next step. Raises TrainerDied."""
        self._trainer.send(DrawSamples(run_id=self._run_id, request_id=request_id, prompts=tuple(prompts), seed=seed))

    def kill(self) -> None:
        """By killing the whole trainer."""
        self._trainer.kill()


class TrainerHandle:
    """One trainer process in a session of its own. It stays warm between jobs; nothing else dies with it.

    ``on_report`` sees every report as it is read from the pipe, from another thread.
    """

    def __init__(
        self,
        *,
        device: str,
        slot: int,
        home: Path,
        log_file: Path,
        env: Mapping[str, str] | None = None,
        keeps_bases: bool = True,
    ) -> None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("ab") as sink:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "worker.engine.serve"),
                    *("--device", device, "--slot", str(slot), "--home", str(home), "--parent", str(os.getpid())),
                    *(() if keeps_bases else ("--one-base",)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )
        self.device_name = ""
        self.memory_bytes: int | None = None
        self.warm_models: tuple[str, ...] = ()
        self.on_report: Callable[[RunReport], None] = lambda _: None
        self._runs: dict[str, Reports] = {}
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._has_ended = False
        assert self._process.stdout is not None
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def start(self, command: Train | Generate) -> TrainerRun:
        """Raises TrainerDied."""
        reports: Reports = queue.Queue()
        with self._lock:
            self._runs[command.run_id] = reports
            if self._has_ended:
                reports.put(None)
        self.send(command)
        return TrainerRun(command.run_id, reports, self)

    def send(self, message: Message) -> None:
        """Raises TrainerDied if the process no longer reads its pipe."""
        try:
            assert self._process.stdin is not None
            with self._sending:
                self._process.stdin.write(message.line())
                self._process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise TrainerDied(self.wait_for_exit()) from error

    def forget(self, run_id: str) -> None:
        """The run's later reports are dropped."""
        with self._lock:
            self._runs.pop(run_id, None)

    def kill(self) -> None:
        """Kills the whole process group at once, and waits until the kernel has freed its memory."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listener.join(timeout=5)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def wait_for_exit(self) -> int | None:
        """The exit code; None if the process has not ended within 5 s."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=5)
        return None

    def _listen(self, pipe: IO[bytes]) -> None:
        """A line that is not a report ends the trainer: a process that writes such lines must not use the device."""
        try:
            for line in pipe:
                self._deliver(REPORTS.validate_json(line))
        except ValueError:
            log.exception("the trainer %d wrote a line that is not a report, and is killed", self.pid)
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        finally:
            with self._lock:
                self._has_ended = True
                for reports in self._runs.values():
                    reports.put(None)

    def _deliver(self, report: Ready | RunReport) -> None:
        if isinstance(report, Ready):
            self.device_name, self.memory_bytes = report.device_name, report.memory_bytes
            return
        if isinstance(report, RuntimeChosen):
            self.warm_models = report.in_memory
        self.on_report(report)
        with self._lock:
            reports = self._runs.get(report.run_id)
        if reports is not None:
            reports.put(report)
