"""Completes the OpenAPI document: descriptions from the glossary, and defaults in words.

A description beside the field takes precedence. A test checks that none is missing in the end.
"""

from collections.abc import Iterator
from typing import Any

from app.glossary import EVERYWHERE, OF_PARAMETERS, OF_SCHEMAS

_PAGE = "A page of a list. Continue with `after` = `last_id` while `has_more`."


def describe_all(document: dict[str, Any]) -> None:
    """Fills in the missing descriptions."""
    for name, schema in document["components"]["schemas"].items():
        _describe(name, schema)
    for operation in list_operations(document):
        for parameter in operation.get("parameters", ()):
            if not parameter.get("description"):
                name = parameter["name"]
                parameter["description"] = OF_PARAMETERS.get(name) or EVERYWHERE.get(name, "")


def tell_defaults(document: dict[str, Any]) -> None:
    """Defaults of request fields become words instead of the keyword: openapi-typescript (7.13) makes a field with a
    default a required one."""
    schemas = document["components"]["schemas"]
    for name in _list_sent(document):
        for field in schemas[name].get("properties", {}).values():
            default = field.pop("default", None)
            if default is not None and "Default:" not in field["description"]:
                field["description"] += f" Default: {_say(default)}."


def _say(default: Any) -> str:
    return ", ".join(map(_say, default)) if isinstance(default, list) else str(default).lower()


def _list_sent(document: dict[str, Any]) -> set[str]:
    """The schemas of request bodies, and those within them."""
    bodies = [
        operation.get("requestBody", {}) for methods in document["paths"].values() for operation in methods.values()
    ]
    found: set[str] = set()
    waiting = _list_references(bodies)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting |= _list_references(document["components"]["schemas"][name])
    return found


def _list_references(part: Any) -> set[str]:
    if isinstance(part, list):
        return set().union(*map(_list_references, part))
    if not isinstance(part, dict):
        return set()
    own = {part["$ref"].rpartition("/")[2]} if isinstance(part.get("$ref"), str) else set()
    return own.union(*map(_list_references, part.values()))


def _describe(name: str, schema: dict[str, Any]) -> None:
    own = OF_SCHEMAS.get(name, {})
    if not schema.get("description"):
        schema["description"] = _PAGE if name.startswith("Page_") else own.get("", "")
    for field, described in schema.get("properties", {}).items():
        if not described.get("description"):
            described["description"] = own.get(field) or EVERYWHERE.get(field, "")


def list_operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The operations of the paths and of the webhooks."""
    for methods in (*document["paths"].values(), *document.get("webhooks", {}).values()):
        yield from methods.values()
