"""Faults of a request, in words and JSON pointers: pydantic's findings, and unknown parameters."""

import difflib
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, get_args

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError

from app.deps import PLAIN, cursor_pattern
from app.hints import Fields
from core.domain.counts import counted
from core.domain.errors import AtelierError, InvalidRequest, InvalidSpec, NotFound, UnsupportedMedia
from core.domain.ids import Prefix
from core.domain.publication import LICENSE, REPO_ID
from core.domain.registration import HUB_ID_PATTERN, ID_PATTERN
from core.domain.spec import TrainingSpec

SPEC_PATH = "/jobs"
RULES = {
    PLAIN: "must be one line, without control characters",
    ID_PATTERN: "must be up to 64 lower-case letters, digits, dots, underscores and hyphens",
    HUB_ID_PATTERN: "must be owner/name, as on the Hugging Face Hub",
    REPO_ID: "must be owner/name, as on the Hugging Face Hub",
    LICENSE: "must be an identifier of a license in lower case, such as openrail++ or cc-by-4.0",
    **dict.fromkeys(map(cursor_pattern, get_args(Prefix)), "is not an id of this list: send the page's last_id"),
}
"""Patterns in words."""
MAX_SHOWN = 3


class SubmittedSpec(TrainingSpec):
    """The fields of ``POST /jobs``, whose own schema is unknown here."""

    model: str
    dataset: str


def error_of_validation(path: str, error: RequestValidationError) -> AtelierError:
    """The request to ``path`` did not parse: which of our errors applies."""
    findings = error.errors()
    if any(finding["loc"][0] == "path" for finding in findings):
        return NotFound(f"There is nothing at {path}: this is not an id of Atelier.")
    if isinstance(error.body, bytes):
        return UnsupportedMedia("Send the body as JSON, with the header Content-Type: application/json.")
    if findings[0]["type"] == "json_invalid":
        position = findings[0]["loc"][-1]
        return InvalidRequest(f"The body is not valid JSON, at character {position}: {findings[0]['ctx']['error']}.")
    messages = _collect(findings, error.body, SPEC_FIELDS if path == SPEC_PATH else None)
    kind = InvalidSpec if path == SPEC_PATH and findings[0]["loc"][0] == "body" else InvalidRequest
    return kind(_summarise(messages), messages)


async def refuse_unknown_query(request: Request) -> None:
    """A misspelt `dry_run` must not queue a job. Raises InvalidRequest for a parameter that the route does not have.
    Routes without a documented 422 accept anything: the dashboard's, and those for probes."""
    route = request.scope["route"]
    if HTTPStatus.UNPROCESSABLE_ENTITY not in route.responses:
        return
    known = list_query(route.dependant)
    messages = {
        f"/query/{escape(name)}": [f"there is no such parameter{_suggest(name, known)}"]
        for name in request.query_params
        if name not in known
    }
    if messages:
        raise InvalidRequest(_summarise(messages), messages)


def list_query(dependant: Dependant) -> set[str]:
    """The query parameters of a route and of its dependencies. From the OpenAPI document, which takes a second to
    build, the first request would wait for it."""
    own = {field.alias for field in dependant.query_params}
    return own.union(*map(list_query, dependant.dependencies))


def _collect(findings: Iterable[Mapping[str, Any]], body: Any, known: Fields | None) -> dict[str, list[str]]:
    """``known``: the fields that a misspelt or misplaced one may have meant."""
    messages: dict[str, list[str]] = {}
    findings = list(findings)
    for finding in findings:
        if finding["type"] == "too_short" and _has_findings_within(finding, findings):
            continue  # pydantic does not count the faulty items of a list
        texts = messages.setdefault(find_pointer(finding, body), [])
        if (message := _message_of(finding, known)) not in texts:
            texts.append(message)
    return messages


def _has_findings_within(finding: Mapping[str, Any], findings: Iterable[Mapping[str, Any]]) -> bool:
    place = finding["loc"]
    return any(len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in findings)


def find_pointer(finding: Mapping[str, Any], body: Any) -> str:
    """RFC 6901. Pydantic's location also names members of unions, which are not part of the document."""
    source, *location = finding["loc"]
    if source != "body":
        return "".join(f"/{escape(part)}" for part in (source, *location))
    pointer, current = "", body
    for part in location:
        if isinstance(current, dict) and (part in current or finding["type"] == "missing"):
            pointer, current = f"{pointer}/{escape(part)}", current.get(part)
        elif isinstance(current, list) and isinstance(part, int):
            pointer, current = f"{pointer}/{part}", current[part] if part < len(current) else None
    return pointer


def escape(part: str | int) -> str:
    """One part of an RFC 6901 pointer."""
    return str(part).replace("~", "~0").replace("/", "~1")


def _message_of(finding: Mapping[str, Any], known: Fields | None) -> str:
    match finding["type"]:
        case "extra_forbidden":
            hint = known.suggest([str(part) for part in finding["loc"][1:]]) if known else ""
            return f"there is no such field{hint}"
        case "missing":
            return "is required"
        case "model_type" | "model_attributes_type" | "dict_type":
            return known.describe([str(part) for part in finding["loc"][1:]]) if known else "should be an object"
        case "list_type" | "tuple_type" | "set_type" | "frozen_set_type":
            return "should be a list"
        case "too_short":
            return f"should have at least {counted(finding['ctx']['min_length'], 'item')}"
        case "too_long":
            return f"should have at most {counted(finding['ctx']['max_length'], 'item')}"
        case "string_pattern_mismatch" if (rule := RULES.get(finding["ctx"]["pattern"])) is not None:
            return rule
        case _:
            text = str(finding["msg"]).removeprefix("Value error, ").removeprefix("Input ")
            return text[:1].lower() + text[1:]


def _suggest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


SPEC_FIELDS = Fields(SubmittedSpec)


def _summarise(messages: Mapping[str, list[str]]) -> str:
    sentences = [_sentence(pointer, message) for pointer, texts in messages.items() for message in texts]
    more = [f"And {len(sentences) - MAX_SHOWN} more."] if len(sentences) > MAX_SHOWN else []
    return " ".join(sentences[:MAX_SHOWN] + more)


def _sentence(pointer: str, message: str) -> str:
    return f"{pointer or 'The body'}: {message}{'' if message.endswith(('.', '?')) else '.'}"
