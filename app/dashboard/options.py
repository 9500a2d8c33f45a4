"""The options of a training as form fields, from the spec's own schema: a new option appears without a change here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from app.jobs.outline import Plan
from core.domain.spec import Preset, TrainingSpec

Kind = Literal["text", "integer", "number", "choice", "switch", "list", "pair", "loose"]

PRESETS: tuple[str, ...] = get_args(Preset)
APART = frozenset({"name", "trigger", "preset", "init_adapter", "webhook", "metadata"})
"""Fields that the page asks for elsewhere, or that only programs set."""
OFTEN = (
    "steps", "adapter.rank", "optimizer.learning_rate", "batch_size", "resolution", "samples.prompts", "samples.every",
    "flip", "adapter.type", "text_encoder.train",
)  # fmt: skip
"""What people change first, in this order. All others are folded further down."""
STEMS = {"samples": "sample", "captions": "caption", "checkpoints": "checkpoint", "prior_preservation": "prior"}
"""How the plan's fields begin that come from a group of the spec, where it is not the group's own name."""


@dataclass(frozen=True)
class Option:
    """``path``: where the value stands in the spec, with dots. ``help``: the schema's description.

    ``choices`` of a ``loose`` field are words in place of a number. ``minimum`` and ``maximum`` are None where there is
    no bound that a number field can state.
    """

    path: str
    kind: Kind
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    @property
    def group(self) -> str:
        """Empty for a field of the spec's first level."""
        return self.path.rpartition(".")[0]

    @property
    def plan_key(self) -> str:
        """The plan's field that holds the resolved value; empty if there is none."""
        *above, name = self.path.split(".")
        group = STEMS.get(above[-1], above[-1]) if above else ""
        keys = (group,) if name == "name" else (f"{group}_{name}", name)
        return next((key for key in keys if key in Plan.model_fields), "")

    @property
    def label(self) -> str:
        words = self.path.rpartition(".")[2].replace("num_", "number of ").replace("_", " ")
        return words[0].upper() + words[1:]


@dataclass(frozen=True)
class Group:
    """``key``: the text of its title is ``option.<key>``."""

    key: str
    options: tuple[Option, ...]


def list_groups() -> tuple[tuple[Option, ...], tuple[Group, ...]]:
    """What is often changed; and all the rest, in the groups of the spec."""
    known = {option.path: option for option in _OPTIONS}
    rest: dict[str, list[Option]] = {}
    for option in _OPTIONS:
        if option.path not in OFTEN:
            rest.setdefault(option.group or "general", []).append(option)
    groups = tuple(Group(key, tuple(options)) for key, options in sorted(rest.items(), key=lambda one: _order(one[0])))
    return tuple(known[path] for path in OFTEN), groups


def _order(key: str) -> tuple[bool, int]:
    keys = list(TrainingSpec.model_fields)
    first = key.partition(".")[0]
    return key != "general", keys.index(first) if first in keys else 0


def _walk(schema: dict[str, Any], definitions: dict[str, Any], above: str = "") -> Iterator[Option]:
    for name, field in schema["properties"].items():
        path = f"{above}{name}"
        if path in APART:
            continue
        types = [_follow(one, definitions) for one in field.get("anyOf", [field])]
        parts = [one for one in types if "properties" in one]
        if parts:
            yield from _walk(parts[0], definitions, f"{path}.")
        else:
            yield _describe(path, field.get("description", ""), [one for one in types if one.get("type") != "null"])


def _follow(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref") or (schema.get("allOf") or [{}])[0].get("$ref")
    return definitions[reference.rpartition("/")[2]] if reference else schema


def _describe(path: str, text: str, types: list[dict[str, Any]]) -> Option:
    values = [str(value) for one in types for value in one.get("enum", [one["const"]] if "const" in one else [])]
    numbers = [one for one in types if one.get("type") in {"integer", "number"} and "enum" not in one]
    if any(one.get("type") == "boolean" for one in types):
        return Option(path, "choice" if values else "switch", text, choices=(*values, "true", "false"))
    if numbers and not values:
        [one] = numbers
        low, high = one.get("minimum"), one.get("maximum")
        return Option(path, "integer" if one["type"] == "integer" else "number", text, minimum=low, maximum=high)
    if values:
        return Option(path, "loose" if numbers else "choice", text, choices=tuple(values))
    if any("prefixItems" in one for one in types):
        return Option(path, "pair", text)
    return Option(path, "list" if any(one.get("type") == "array" for one in types) else "text", text)


SPEC_HELP = {name: field.description or "" for name, field in TrainingSpec.model_fields.items()}
"""What the first level of the spec says of its fields."""

_SCHEMA = TrainingSpec.model_json_schema()
_OPTIONS = tuple(_walk(_SCHEMA, _SCHEMA["$defs"]))
