"""What registrations of the operator's own models have in common: where the model comes from."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from app.deps import PLAIN
from core.domain.registration import HUB_ID_PATTERN, ID_PATTERN

ONE_SOURCE: list[JsonValue] = [
    {"required": [source], "properties": {source: {"type": "string"}}} for source in ("path", "hub_id")
]
"""In JSON Schema, as ``oneOf``."""


class SourceRegistration(BaseModel):
    """A ``path`` below the models directory, or a ``hub_id``; exactly one of them."""

    model_config = ConfigDict(extra="forbid")

    path: Annotated[
        str | None,
        Field(min_length=1, max_length=500, pattern=PLAIN, description="Relative to the models directory."),
    ] = None
    hub_id: Annotated[
        str | None, Field(max_length=200, pattern=HUB_ID_PATTERN, description="On the Hugging Face Hub.")
    ] = None
    id: Annotated[
        str | None, Field(pattern=ID_PATTERN, description="By default from the name of the file, folder or repository.")
    ] = None
    description: Annotated[str, Field(max_length=500, pattern=PLAIN)] = ""

    @model_validator(mode="after")
    def _needs_one_source(self) -> Self:
        if (self.path is None) == (self.hub_id is None):
            raise ValueError("give either path or hub_id")
        return self
