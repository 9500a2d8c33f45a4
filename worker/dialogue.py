"""Talks with a program that opens what somebody else made: a line for a line, both JSON. The worker survives its death.

It gets no secret: its environment is built from nothing.
"""

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import worker

ROOT = Path(worker.__file__).parent.parent
MAX_ANSWER_BYTES = 64 << 20
POLL_SECONDS = 0.5
_END_SECONDS = 5.0
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


class ProgramDied(Exception):
    """It crashed, exceeded a limit or answered nonsense; the message says which."""


class Dialogue:
    """One program, started at once. ``pulse`` is called twice a second while it works, and may raise to have it killed.

    Use it from a thread that lives as long: the program dies with the thread that started it.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        pulse: Callable[[], None],
        *,
        also_kept: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """``also_kept``: names of variables of this process that the program needs; ``variables``: new ones."""
        self._pulse = pulse
        kept = {name: os.environ[name] for name in (*_KEPT_VARIABLES, *also_kept) if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            env={**kept, "PYTHONPATH": str(ROOT), **(variables or {})},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, line: str, timeout_seconds: float) -> bytes:
        """Raises ProgramDied, and what ``pulse`` raises."""
        try:
            _pipe(self._process.stdin).write(line.encode() + b"\n")
        except BrokenPipeError:
            raise ProgramDied(self._describe_end()) from None
        return self._read_answer(time.monotonic() + timeout_seconds)

    def _read_answer(self, deadline: float) -> bytes:
        pipe, answer = _pipe(self._process.stdout), b""
        while not answer.endswith(b"\n"):
            self._pulse()
            if not select.select([pipe], [], [], POLL_SECONDS)[0]:
                if time.monotonic() > deadline:
                    raise ProgramDied("it took too long")
                continue
            piece = os.read(pipe.fileno(), 1 << 20)
            answer += piece
            if not piece or len(answer) > MAX_ANSWER_BYTES:
                raise ProgramDied(self._describe_end())
        return answer

    def _describe_end(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f"it ended with {self._process.wait(_END_SECONDS)}"
        return "its answer is malformed"


def _pipe(pipe: Any) -> Any:
    assert pipe is not None
    return pipe
