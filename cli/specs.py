"""Reads the file of `--spec`: a TrainingSpec in JSON or YAML. The service checks what it says."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from cli.errors import UsageError

_FAULTS = (
    (r"'\\t' that cannot start", "this is a tab: indent with spaces"),
    ("that cannot start any token", "no value begins with this character: put the text in quotes"),
    (
        "mapping values are not allowed",
        "a colon is not expected here: check the indentation, and put text with a colon in quotes",
    ),
    ("could not find expected ':'", "a colon is missing behind a name"),
    (r"expected ',' or '[]}]'", "a comma or a closing bracket is missing"),
    ("expected <block end>", "this does not fit the lines above: check the indentation, brackets and quotes"),
    ("expected the node content", "a value is missing, or a bracket is not closed"),
    ("unexpected end of stream", "a quote is not closed"),
    ("determine a constructor", "tags such as !!set are not supported"),
    ("undefined alias", "*name is an alias of nothing: put text with a * in quotes"),
    ("unknown escape", "this backslash is not allowed in double quotes: use single quotes"),
    ("unhashable key", "this cannot be the name of a field"),
)
"""What the parser says -> what it means to somebody who writes a spec."""


class SpecLoader(yaml.SafeLoader):
    """YAML as JSON would say it: `on`, `off`, `yes` and dates are words, and `1e-4` is a number, as in YAML 1.2."""


SpecLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
SpecLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))
_POWER_OF_TEN = re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
SpecLoader.add_implicit_resolver("tag:yaml.org,2002:float", _POWER_OF_TEN, list("-+0123456789"))


def read_spec(path: Path) -> dict[str, Any]:
    """Raises UsageError."""
    is_json = path.suffix.lower() == ".json"
    try:
        text = path.read_text(encoding="utf-8")
        spec = json.loads(text) if is_json else yaml.load(text, SpecLoader)  # noqa: S506
        json.dumps(spec, allow_nan=False)
    except OSError as error:
        raise UsageError(f"The spec {path} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise UsageError(f"The spec {path} is not valid {'JSON' if is_json else 'YAML'}: {_explain(error)}.") from error
    if not isinstance(spec, dict) or not all(isinstance(key, str) for key in spec):
        raise UsageError(f'The spec {path} must hold an object of fields, such as {{"steps": 300}}.')
    if "dataset" in spec:
        raise UsageError(f"The spec {path} names a dataset, but the images are given by PATH: take `dataset` out.")
    return spec


def _explain(error: Exception) -> str:
    match error:
        case json.JSONDecodeError():
            what = error.msg[:1].lower() + error.msg[1:]
            return f"line {error.lineno}, column {error.colno}: {what}"
        case yaml.MarkedYAMLError(problem_mark=yaml.Mark() as mark):
            return f"line {mark.line + 1}, column {mark.column + 1}: {_explain_problem(error.problem or '')}"
        case yaml.reader.ReaderError():
            return f"it contains the control character {chr(error.character)!a}"
        case UnicodeDecodeError():
            return "it is not text in UTF-8"
        case RecursionError():
            return "it is nested too deeply"
        case TypeError():
            return "it may contain only text, numbers, true, false, null, lists and objects"
        case _:
            return "a number is NaN or infinite, or a list contains itself"


def _explain_problem(problem: str) -> str:
    return next((meaning for pattern, meaning in _FAULTS if re.search(pattern, problem)), "this cannot be read")
