"""What the parts of the check measure, a row of a table each."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from bench.memory.job import Measurement
from bench.steps import Compiled


class Cell(BaseModel):
    """One way to take steps. ``resolution`` in pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resolution: int
    batch: int
    checkpointing: bool = False
    strict: bool = True
    compiled: Compiled = "no"


class StepRow(BaseModel):
    """``seconds``: the median, the fastest and the slowest step. ``same_losses``: as the plain step's of that
    resolution and batch, to the last bit; None if that was not timed. ``error``: why there are no figures."""

    kind: Literal["step"] = "step"
    base: str
    cell: Cell
    precision: str = ""
    seconds: tuple[float, float, float] | None = None
    setup_seconds: float | None = None
    peak_bytes: int | None = None
    same_losses: bool | None = None
    error: str | None = None


class MemoryRow(BaseModel):
    kind: Literal["memory"] = "memory"
    base: str
    job: str
    measurement: Measurement


class CheckRow(BaseModel):
    """``ok``: None if this device cannot be asked."""

    kind: Literal["check"] = "check"
    name: str
    ok: bool | None
    detail: str
    seconds: float = 0.0


Row = Annotated[StepRow | MemoryRow | CheckRow, Field(discriminator="kind")]
ROWS: TypeAdapter[StepRow | MemoryRow | CheckRow] = TypeAdapter(Row)


def emit(row: StepRow | MemoryRow | CheckRow) -> None:
    """To the program that started this one."""
    print(row.model_dump_json(), flush=True)
