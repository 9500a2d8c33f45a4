"""Numbers and truths of a JSON body, exactly as its schema has them: "5" is no number, and true is no 1.

Pydantic by itself takes either for the other, so that a mistake would train with a number that nobody wrote.
"""

from typing import Annotated, Any

from pydantic import BaseModel, Strict, model_validator

StrictInt = Annotated[int, Strict()]
StrictFloat = Annotated[float, Strict()]
StrictBool = Annotated[bool, Strict()]


class StrictNumbers(BaseModel):
    """For models with these types. 5.0 is a whole number, as JSON Schema and many a client's arithmetic have it."""

    @model_validator(mode="before")
    @classmethod
    def _write_whole_floats_as_whole(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: int(value) if _is_whole(value) else value for name, value in data.items()}


def _is_whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()
