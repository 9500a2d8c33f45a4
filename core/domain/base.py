"""What the values of the domain have in common."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, and without fields that are not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")
