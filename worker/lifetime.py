"""A Celery worker's lifetime, and how its job learns of a shutdown.

Celery announces a shutdown only in the main process, and then waits for the running task. The task runs in a forked
child, where Celery and billiard use the signals themselves (SIGTERM and SIGUSR2 end it, SIGUSR1 is theirs). So the
main process holds one end of a pipe, which it closes at a shutdown; the child reads the other.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

from celery.signals import worker_init, worker_process_init, worker_shutting_down

from worker.parent import die_with_parent


class DrainPipe:
    """From the main process to its children, including those that start after the shutdown began."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def close(self) -> None:
        """In the main process, and safe in a signal handler: signals all children. Closing twice is not an error."""
        writer, self._writer = self._writer, -1
        with contextlib.suppress(OSError):
            os.close(writer)

    def listen(self, on_drain: Callable[[], None]) -> None:
        """In a child, once: calls ``on_drain`` from a thread when the main process closes its end, or dies."""
        self.close()
        threading.Thread(target=self._wait, args=(on_drain,), name="drain", daemon=True).start()

    def _wait(self, on_drain: Callable[[], None]) -> None:
        os.read(self._reader, 1)
        on_drain()


def install_shutdown_hooks(on_drain: Callable[[], None]) -> None:
    """Hooks into this process, if it becomes a Celery worker. ``on_drain`` runs in the child that runs the tasks."""
    lines: list[DrainPipe] = []

    def start(**_: Any) -> None:
        die_with_parent(os.getppid())
        lines.append(DrainPipe())

    def start_child(**_: Any) -> None:
        die_with_parent(os.getppid())
        for line in lines:
            line.listen(on_drain)

    def shut_down(**_: Any) -> None:
        for line in lines:
            line.close()

    worker_init.connect(start, weak=False)
    worker_process_init.connect(start_child, weak=False)
    worker_shutting_down.connect(shut_down, weak=False)
