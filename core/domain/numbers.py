"""Numbers and booleans of a JSON body, exactly as its schema has them: "5" is not a number, and true is not 1.

Pydantic by itself converts between them, so that a mistake would train with an unintended number.
"""

from typing import Annotated, Any

from pydantic import BaseModel, Strict, model_validator

StrictInt = Annotated[int, Strict()]
StrictFloat = Annotated[float, Strict()]
StrictBool = Annotated[bool, Strict()]


class StrictNumbers(BaseModel):
    """For models with these types. 5.0 counts as a whole number, as in JSON Schema and in many clients' arithmetic."""

    @model_validator(mode="before")
    @classmethod
    def _write_whole_floats_as_whole(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: int(value) if _is_whole(value) else value for name, value in data.items()}


def _is_whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()
