"""How OpenMP's threads wait for each other on the CPU: spinning while the cores are free, sleeping while they are not.

libgomp, which PyTorch's CPU build brings, spins for some milliseconds at each barrier. On idle cores this is the
fastest way to wait. Where another process wants the cores, the spinning thread takes the core from the thread that it
waits for, and a training step takes up to twenty times as long. ``OMP_WAIT_POLICY=PASSIVE`` avoids this, and costs a
fifth on idle cores; it is read once, when the process starts.

libgomp has a second limit for the case that a process has more OpenMP threads than the machine has cores: then a thread
spins 100 times instead of 300,000 (manual of libgomp, GOMP_SPINCOUNT). ``SleepWhenContended`` makes use of it: while
the cores are contended, a thread of its own holds a further team of OpenMP threads, which never computes anything.
Neither the number of threads that compute nor the order of their sums changes, so the results are the same bytes.
"""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

CHECK_SECONDS = 0.5
CONTENDED_SHARE = 0.15
"""A thread that could run waits for a core for more than this share of the time."""

QUIET_SHARE, QUIET_CHECKS = 0.03, 10
"""Less than this share, in so many checks in succession, ends the contention."""

_TASKS = Path("/proc/self/task")


class SleepWhenContended:
    """Watches this process from a thread of its own. Does nothing where Linux's /proc is missing, or where the user has
    chosen how threads wait (OMP_WAIT_POLICY, GOMP_SPINCOUNT)."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._team: _IdleTeam | None = None
        chosen = os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
        self._thread = None if chosen or not _TASKS.exists() else threading.Thread(target=self._watch, daemon=True)

    @property
    def is_contended(self) -> bool:
        return self._team is not None

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        quiet, waited = 0, read_wait_seconds()
        while not self._ended.wait(CHECK_SECONDS):
            before, waited = waited, read_wait_seconds()
            share = max((seconds - before.get(task, seconds) for task, seconds in waited.items()), default=0.0)
            share /= CHECK_SECONDS
            quiet = quiet + 1 if share < QUIET_SHARE else 0
            if self._team is None and share > CONTENDED_SHARE:
                self._team = _IdleTeam()
            elif self._team is not None and quiet >= QUIET_CHECKS:
                self._end_team()
        self._end_team()

    def _end_team(self) -> None:
        if self._team is not None:
            self._team.end()
            self._team = None


class _IdleTeam:
    """A thread with OpenMP threads of its own, which exist as long as it does."""

    def __init__(self) -> None:
        self._ended, started = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(started,), daemon=True)
        self._thread.start()
        started.wait()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _hold(self, started: threading.Event) -> None:
        torch.ones(1 << 17).exp_()  # large enough for PyTorch to use all its threads
        started.set()
        self._ended.wait()


def read_wait_seconds() -> dict[str, float]:
    """For each thread of this process, how long it has been ready to run without a core (Linux, proc(5): schedstat)."""
    waits = {}
    for task in _TASKS.iterdir():
        try:
            _, delay, _ = (task / "schedstat").read_text().split()
        except (OSError, ValueError):
            continue  # the thread has ended
        waits[task.name] = int(delay) / 1e9
    return waits
