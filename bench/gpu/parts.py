"""The check's parts, and how one is run: in a process of its own, within the time that is left."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, TypeAdapter

from bench.gpu.rows import ROWS, Cell, CheckRow, MemoryRow, StepRow
from bench.steps import Compiled

Status = Literal["done", "failed", "out of time", "skipped"]
CELLS: TypeAdapter[list[Cell]] = TypeAdapter(list[Cell])
LOG_CHARS = 600


@dataclass(frozen=True)
class Part:
    """``arguments``: a module and its arguments. ``needs_seconds``: a guess; with less left, it is not begun.
    ``after``: the name of a background part that has to end first."""

    name: str
    arguments: Sequence[str]
    needs_seconds: float
    after: str | None = None


class Ran(BaseModel):
    """``error``: the end of its log."""

    name: str
    status: Status
    seconds: float = 0.0
    rows: list[StepRow | MemoryRow | CheckRow] = []
    error: str | None = None


@dataclass
class Budget:
    """``seconds`` from now on."""

    seconds: float
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        return self.started + self.seconds - time.monotonic()


def list_parts(folders: dict[str, Path], device: str, *, small: bool, num_steps: int) -> list[Part]:
    """In the order of what they are worth."""
    sizes = (64, 128) if small else (512, 1024)
    sd15, sdxl = str(folders["sd15"]), str(folders["sdxl"])
    where = ["--device", device]

    def steps(name: str, base: str, cells: list[Cell], needs: float) -> Part:
        how = ["--steps", str(num_steps), "--cells", CELLS.dump_json(cells).decode()]
        return Part(name, ["bench.gpu.steps", base, *where, *how], needs)

    def memory(case: str, base: str) -> Part:
        after = "trace " + Path(base).name
        return Part(f"memory, {case}", ["bench.gpu.memory", base, case, *where], 25, after)

    promises = ["bench.gpu.promises", sd15, *where, "--resolution", str(sizes[0])]
    cases = [("small-sd15", sd15)] if small else [("gpu-sd15", sd15), ("gpu-sd15-saved", sd15)]
    return [
        steps("steps, sd15", sd15, list_cells(sizes), 30),
        Part("promises, sd15", promises, 60, "trace sd15"),
        *(memory(*case) for case in cases),
        steps("steps, sdxl", sdxl, list_cells(sizes), 60),
        memory("small-sdxl" if small else "gpu-sdxl-saved", sdxl),
        steps("compiled steps, sd15", sd15, list_compiled(sizes[0], "blocks"), 60),
        steps("compiled steps, sdxl", sdxl, list_compiled(sizes[-1], "blocks"), 60),
        steps("compiled as a whole, sd15", sd15, list_compiled(sizes[0], "whole"), 90),
    ]


def list_cells(sizes: Sequence[int]) -> list[Cell]:
    """Everything at once would be sixteen times as many: each size and batch with and without checkpointing, and
    without strict determinism where it is compared with."""
    cells = []
    for size in sizes:
        for batch in (1, 4):
            plain = Cell(resolution=size, batch=batch)
            cells += [
                plain,
                plain.model_copy(update={"strict": False}),
                plain.model_copy(update={"checkpointing": True}),
            ]
    return cells


def list_compiled(size: int, compiled: Compiled) -> list[Cell]:
    """Beside the plain step, in the same process."""
    plain = Cell(resolution=size, batch=1)
    return [plain, plain.model_copy(update={"compiled": compiled})]


def run_part(part: Part, budget: Budget, log: Path) -> Ran:
    """Its rows so far are kept if it fails or its time is up."""
    if budget.left < part.needs_seconds:
        return Ran(name=part.name, status="skipped", error=f"{max(0, budget.left):.0f} s were left, "
                   f"and it takes about {part.needs_seconds:.0f} s")  # fmt: skip
    started = time.monotonic()
    with log.open("wb") as sink:
        process = start_program(part.arguments, sink)
        rows, in_time = _read_rows(process, budget)
        stop_program(process)
    ran = Ran(name=part.name, status="done", seconds=time.monotonic() - started, rows=rows)
    if not in_time:
        return ran.model_copy(update={"status": "out of time"})
    if process.returncode != 0:
        end = log.read_text(errors="replace").strip()[-LOG_CHARS:]
        return ran.model_copy(update={"status": "failed", "error": f"exit code {process.returncode}: {end}"})
    return ran


def start_program(arguments: Sequence[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.PIPE, stderr=log, start_new_session=True
    )


def stop_program(process: "subprocess.Popen[bytes]") -> None:
    """With all that it started, whether it has ended or not."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _read_rows(process: "subprocess.Popen[bytes]", budget: Budget) -> tuple[list[StepRow | MemoryRow | CheckRow], bool]:
    """Until the program has closed its output; False if the time was up before."""
    lines: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    rows: list[StepRow | MemoryRow | CheckRow] = []
    while True:
        try:
            line = lines.get(timeout=max(0.0, budget.left))
        except queue.Empty:
            return rows, False
        if line is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            return rows, True
        with suppress(json.JSONDecodeError, ValueError):  # a library's own line
            rows.append(ROWS.validate_json(line))
