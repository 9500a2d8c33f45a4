"""Runs a program that needs torch, for a process that must not load it: an order in, an answer out, both JSON."""

import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import worker

POLL_SECONDS = 0.5
ROOT = Path(worker.__file__).parent.parent


@dataclass(frozen=True)
class Ending:
    """The program's output at its end. An exit code below 0 is the signal that killed it."""

    answer: bytes
    exit_code: int


@functools.cache
def has_torch() -> bool:
    """The CPU worker's image has no torch, and leaves such work to the training workers."""
    return importlib.util.find_spec("torch") is not None


def run_program(module: str, order: bytes, check: Callable[[], None]) -> Ending:
    """``check`` is called periodically; its exception ends the program and is passed on."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        # One thread each: the libraries' pools take memory per core of the machine, and memory may be limited.
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    )
    unsent: bytes | None = order
    while True:
        try:
            return Ending(process.communicate(unsent, timeout=POLL_SECONDS)[0], process.returncode)
        except subprocess.TimeoutExpired:
            unsent = None  # a second call continues after the first
        try:
            check()
        except BaseException:
            process.kill()
            process.communicate()
            raise
