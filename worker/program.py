"""Runs a program that needs torch, for a process that must not load it: an order in, an answer out, both JSON."""

import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

import worker
from core.domain.adapter_check import CheckAnswer
from core.domain.adapter_import import ImportResult
from core.domain.adapter_merge import MergeResult
from core.domain.base import Frozen
from core.domain.captioner import FetchResult
from core.domain.promotion import ProofAnswer
from core.domain.publication import PublishAnswer
from core.domain.registration import CalibrationResult, RegistrationResult

LAUNCHER = "worker.engine.launch"
POLL_SECONDS = 0.5
ROOT = Path(worker.__file__).parent.parent

Result = TypeVar(
    "Result",
    ImportResult,
    MergeResult,
    CheckAnswer,
    FetchResult,
    ProofAnswer,
    PublishAnswer,
    RegistrationResult,
    CalibrationResult,
)

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""The libraries' pools take memory for each of the machine's cores, and memory may be limited."""


@functools.cache
def has_torch() -> bool:
    """The CPU worker's image has no torch, and leaves such work to the training workers."""
    return importlib.util.find_spec("torch") is not None


def ask_program(
    module: str,
    order: Frozen,
    result: type[Result],
    check: Callable[[], None],
    *,
    task: str,
    environment: Mapping[str, str | None] | None = None,
) -> Result:
    """``check`` is called periodically; its exception ends the program and is passed on. A program that dies counts as
    a refusal, since the same upload would kill the next one too. ``task``: what it does, for the refusal.
    ``environment``: variables that differ from this process's, whose libraries have one thread; None: without it."""
    answer, exit_code = _run(module, order.model_dump_json().encode(), check, environment or {})
    try:
        return result.model_validate_json(answer)
    except ValidationError:
        return result(
            refusal=f"The program that {task} ended with {exit_code} and gave no reason; the worker's log has more. -9 "
            "means that the system killed it, usually because memory ran out."
        )


def _run(
    module: str, order: bytes, check: Callable[[], None], environment: Mapping[str, str | None]
) -> tuple[bytes, int]:
    """The program's output, and its exit code; one below 0 is the signal that killed it."""
    variables = {**os.environ, **ONE_THREAD, **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", LAUNCHER, module, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={name: value for name, value in variables.items() if value is not None},
        start_new_session=True,
    )
    unsent: bytes | None = order
    while True:
        try:
            return process.communicate(unsent, timeout=POLL_SECONDS)[0], process.returncode
        except subprocess.TimeoutExpired:
            unsent = None  # a second call continues after the first
        try:
            check()
        except BaseException:
            process.kill()
            process.communicate()
            raise
