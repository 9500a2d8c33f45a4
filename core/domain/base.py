"""The base of the domain's values."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, and without undeclared fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
