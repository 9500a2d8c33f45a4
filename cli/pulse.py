"""A sign of life: a reader of a log or a pipe sees that the command is still running, whatever it waits for."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

INTERVAL_SECONDS = 10.0
"""Less than the 15 s after which people and watchdogs begin to doubt."""


class Pulse:
    """Calls ``beat`` with the seconds since its start whenever nothing was said for INTERVAL_SECONDS. What ``beat``
    prints comes from a thread of its own."""

    def __init__(self, beat: Callable[[float], object]) -> None:
        self._beat = beat
        self._started = self._last = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def touch(self) -> None:
        """Something was just said."""
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(max(0.0, self._last + INTERVAL_SECONDS - time.monotonic())):
            now = time.monotonic()
            if now - self._last >= INTERVAL_SECONDS:
                self.touch()
                self._beat(now - self._started)
