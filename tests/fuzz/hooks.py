"""What Schemathesis asks of us before each call; its process imports this by name (schemathesis.toml)."""

import json
import os
import re
import zlib
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis import Case, HookContext

from app.deps import PLAIN
from core.db.tables import DEFAULT_TENANT

IDS_VARIABLE = "FUZZ_IDS"
"""The folder with the ids of what there is."""
WAIT_SECONDS = 0.02
LONGEST_WAIT_SECONDS = 60.0


@schemathesis.hook
def before_call(context: HookContext, case: Case, **kwargs: Any) -> None:
    """No call waits for long: neither for another status of a job, nor for its events as a stream, nor for a check."""
    if case.query and "wait" in case.query:
        case.query["wait"] = cap_wait(case.query["wait"])
    elif case.path == "/adapters/check":  # by default it does, and nobody answers here
        case.query = {**(case.query or {}), "wait": WAIT_SECONDS}
    if case.headers and "text/event-stream" in str(case.headers.get("Accept", "")):
        del case.headers["Accept"]
    if case.path == "/captionings/{captioning_id}/events" and str(case.path_parameters["captioning_id"])[:4] == "cap_":
        case.path_parameters["captioning_id"] = read_first_id("captionings")  # it has ended; others' streams go on
    if (case.method, case.path) == ("POST", "/jobs") and isinstance(case.body, dict):
        name_what_there_is(case.body)
    if case.path == "/tenants/{tenant_id}/quota" and case.path_parameters.get("tenant_id") == DEFAULT_TENANT:
        case.path_parameters["tenant_id"] = read_first_id("tenants")  # else the first quota refuses all jobs after it


def cap_wait(value: Any) -> Any:
    """What the service would take, but shorter; what it refuses stays as it is."""
    if isinstance(value, list):
        return [cap_wait(item) for item in value]
    try:
        is_long = WAIT_SECONDS < float(value) <= LONGEST_WAIT_SECONDS
    except (TypeError, ValueError):
        return value
    return WAIT_SECONDS if is_long else value


def name_what_there_is(body: dict[str, Any]) -> None:
    """A spec is looked into when what it names is there. Some keep a random name; what is no name at all stays."""
    for field in ("model", "dataset", "init_adapter"):
        name = body.get(field)
        if isinstance(name, str) and len(name) <= 64 and re.match(PLAIN, name) and zlib.crc32(name.encode()) % 8:
            body[field] = read_first_id(f"{field.removeprefix('init_')}s")


def read_first_id(dictionary: str) -> str:
    first: str = json.loads((Path(os.environ[IDS_VARIABLE]) / dictionary).read_text().splitlines()[0])
    return first
