"""The grid of a generation: two of its settings varied against each other, as a labelled sheet for each prompt."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from core.domain.base import Frozen
from core.domain.numbers import StrictFloat, StrictInt
from core.domain.spec_part import SpecPart

MAX_VALUES = 16

GridField = Literal["weight", "adapter", "step", "seed", "guidance_scale", "num_steps"]


class GridAxis(SpecPart):
    """A setting and its values. `weight`, `step` and `adapter` are those of one entry of `adapters`."""

    field: GridField = Field(
        description="`weight` and `step`: of an entry of `adapters`; `adapter`: its id; the others: of the image."
    )
    values: tuple[StrictInt | StrictFloat | Annotated[str, Field(max_length=100)], ...] = Field(
        min_length=1, max_length=MAX_VALUES, description="Numbers; for `adapter` ids."
    )
    entry: StrictInt = Field(0, ge=0, lt=16, description="Which entry of `adapters`, from 0.")


class GridSpec(SpecPart):
    """Columns, and rows if there is a second setting."""

    x: GridAxis = Field(description="The columns, from left to right.")
    y: GridAxis | None = Field(None, description="The rows, from top to bottom.")

    @model_validator(mode="after")
    def _two_settings(self) -> Self:
        if self.y is not None and (self.x.field, self.x.entry) == (self.y.field, self.y.entry):
            raise ValueError("x and y vary the same setting")
        return self


class Cell(Frozen):
    """One image of each prompt. ``weights``: of the plan's adapters; None for one that is not in this image's stack."""

    weights: tuple[float | None, ...]
    seed: int
    guidance_scale: float
    num_steps: int


class Grid(Frozen):
    """``cells`` row by row."""

    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: tuple[Cell, ...]
