"""Additions to /openapi.json that the framework does not know: problems, the key, and the schema Problem."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.descriptions import describe_all, list_operations, tell_defaults
from app.problems import MEDIA_TYPE, STATUS_OF, Problem
from core.domain.errors import AtelierError, describe_problem

DESCRIPTION = """Training as a service: a few images in, a LoRA adapter out.

Send the API key as `Authorization: Bearer atl_…`. The scope `read` allows a key to read, `jobs` to change datasets,
jobs and adapters, and `admin` to do both and to manage keys; tenants, models and captioners need the operator's key.
Errors are `application/problem+json` (RFC 9457): `errors` maps JSON pointers into the body to their faults, and
`detail` says what to do. Unknown fields and parameters are rejected.
"""

OF_BODIES = ("too-large", "too-slow", "unsupported-media")
OF_FILES = ("precondition-failed", "range-not-satisfiable")
ALWAYS = ("unauthenticated", "forbidden", "invalid-request", "quota-exceeded", "unavailable")

_DETAILS = {
    "unauthenticated": "Send your API key in the header: Authorization: Bearer atl_…",
    "forbidden": "This needs a key with the scope jobs; yours has: read. Ask an admin of yours for one.",
    "not-found": "There is no job job_01j9z0000000000000000000000.",
    "wrong-state": "Job job_01j9z0000000000000000000000 has ended (succeeded) and cannot be canceled.",
    "too-large": "The body is larger than the limit of 1,048,576 bytes.",
    "unsupported-media": "Send the body as JSON, with the header Content-Type: application/json.",
    "too-slow": "The body arrived too slowly or incompletely. Use a better connection.",
    "precondition-failed": "If-Match names another version of the file: leave it out, or fetch the current one.",
    "range-not-satisfiable": "The file has 1,313,096 bytes, and the requested range begins after them.",
    "invalid-request": "/limit should be at most 100.",
    "invalid-spec": "/adapter/rank should be less than or equal to 256.",
    "url-forbidden": "/webhook/url: 10.1.2.3 is a private address. Name a receiver on the public internet, or ask the "
    "operator to admit this one (ATELIER_WEBHOOK_ALLOW).",
    "idempotency-mismatch": "This Idempotency-Key created job_01j9z0000000000000000000000 from another body.",
    "archive-rejected": "photos.zip is not a zip archive, or is damaged.",
    "dataset-rejected": "None of the files is an image, there are only captions. Send the images too: PNG, JPEG, WebP, "
    "HEIC, AVIF, BMP, TIFF or GIF.",
    "image-rejected": "cat.png: It is a PDF document, which is not accepted. Export it as PNG or JPEG; WebP, HEIC, "
    "AVIF, BMP, TIFF and GIF are accepted too, whatever their names.",
    "model-rejected": "mine has no atelier.json.",
    "captioner-rejected": "captioners/blip is not in the models directory: put the captioner's folder there, or "
    "correct the path.",
    "adapter-rejected": "The file is a LoHa, which is not supported.",
    "weights-rejected": "The file is empty. Send it again.",
    "unsupported-weights": "The file is a pickle, whatever its name says. Only .safetensors files are supported: "
    "formats that can run code when they are opened are not read.",
    "quota-exceeded": "Queue limit reached: 5 of 5 jobs are waiting. Wait for one to start, or cancel one.",
    "unavailable": "The database does not respond. Try again in a few seconds.",
}


def problems(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """For ``responses=`` of a route: it may answer with these, and with those that every route has."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for slug in (*ALWAYS, *slugs):
        _add_problem(by_status, STATUS_OF[slug], slug)
    return by_status


def _add_problem(responses: dict[Any, dict[str, Any]], status: int | str, slug: str) -> None:
    content = responses.setdefault(status, _start_response(STATUS_OF[slug]))["content"][MEDIA_TYPE]
    content["examples"][slug] = {"value": _example_of(slug)}


def _start_response(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema, "examples": {}}}}


def _example_of(slug: str) -> dict[str, Any]:
    title = _titles(AtelierError).get(slug, HTTPStatus(STATUS_OF[slug]).phrase)
    return {**describe_problem(slug, title, _DETAILS[slug]), "status": STATUS_OF[slug], "instance": "/jobs"}


def _titles(kind: type[AtelierError]) -> dict[str, str]:
    found = {kind.slug: kind.title}
    for below in kind.__subclasses__():
        found |= _titles(below)
    return found


def name_operation(route: APIRoute) -> str:
    """Operation ids are the endpoints' names: stable for as long as those are."""
    return route.name


def install_openapi(app: FastAPI) -> None:
    def make() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _make_document(app)
        return app.openapi_schema

    app.openapi = make  # type: ignore[method-assign]  # FastAPI's documented way


def _make_document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        webhooks=app.webhooks.routes,
        tags=app.openapi_tags,
    )
    schemas = document["components"]["schemas"]
    schemas["Problem"] = Problem.model_json_schema(mode="serialization")
    _drop_framework_errors(document)
    _add_problems_of_bodies(document)
    for model in _list_models(BaseModel):
        if model.__name__ in schemas:
            _restore_examples(schemas[model.__name__], model)
    describe_all(document)
    tell_defaults(document)
    return document


def _add_problems_of_bodies(document: dict[str, Any]) -> None:
    """Every route with a body may refuse it unread."""
    operations = (operation for methods in document["paths"].values() for operation in methods.values())
    for operation in operations:
        if "requestBody" in operation:
            for slug in OF_BODIES:
                _add_problem(operation["responses"], str(STATUS_OF[slug]), slug)


def _drop_framework_errors(document: dict[str, Any]) -> None:
    """The framework announces a 422 of its own for every parameter; this service never sends it."""
    for operation in list_operations(document):
        if "application/json" in operation["responses"].get("422", {}).get("content", {}):
            del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _list_models(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for below in kind.__subclasses__():
        if below.__module__.startswith("app."):
            yield below
        yield from _list_models(below)


def _restore_examples(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """The framework removes nulls from its document, and so required fields from the examples."""
    extra = model.model_config.get("json_schema_extra")
    if isinstance(extra, dict) and "examples" in extra:
        schema["examples"] = extra["examples"]
