"""The base of all parts of a spec: frozen, no unknown fields, and null for absent values."""

from typing import Any, ClassVar

from pydantic import ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from core.domain.numbers import StrictNumbers


class SpecPart(StrictNumbers):
    model_config = ConfigDict(frozen=True, extra="forbid")
    null_means_off: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """Generated clients may send either."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key in cls.null_means_off}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The document states that null is accepted. The fields of an object give its defaults: client generators
        refuse a default that is an object beside null (openapi-python-client 0.29)."""
        described = handler(core_schema)
        whole = handler.resolve_ref_schema(described)
        properties, required = whole["properties"], whole.get("required", [])
        whole["properties"] = {
            name: field if name in required else _or_null(field) for name, field in properties.items()
        }
        return described


_SAID_OF_FIELDS = frozenset({"title", "description", "default"})
_NULL = {"type": "null"}


def _or_null(field: JsonSchemaValue) -> JsonSchemaValue:
    """A field's schema, and null beside it."""
    if "anyOf" in field:
        return {**field, "anyOf": [*(kind for kind in field["anyOf"] if kind != _NULL), _NULL]}
    kind = {key: value for key, value in field.items() if key not in _SAID_OF_FIELDS}
    kept = {key: field[key] for key in _SAID_OF_FIELDS & field.keys() if not isinstance(field[key], dict)}
    return {"anyOf": [kind, _NULL], **kept}
