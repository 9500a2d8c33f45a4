"""Errors as RFC 9457 ``application/problem+json``. Only this module maps slugs to HTTP statuses."""

import logging
import secrets
from collections.abc import Iterable, Mapping
from http import HTTPStatus

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.conditions import RangeNotSatisfiable
from app.media import UnsupportedCoding
from app.methods import is_head
from app.validation import error_of_validation
from core.domain.errors import AtelierError, InvalidRequest, NotFound, QuotaExceeded, TooLarge, Unavailable, UserError
from core.storage import ObjectNotFound, StorageFull, StorageUnavailable

RETRY_AFTER_SECONDS = 5
MEDIA_TYPE = "application/problem+json"

STATUS_OF: dict[str, int] = {
    "invalid-request": 422,
    "invalid-spec": 422,
    "url-forbidden": 422,
    "archive-rejected": 422,
    "image-rejected": 422,
    "dataset-rejected": 422,
    "model-rejected": 422,
    "captioner-rejected": 422,
    "adapter-rejected": 422,
    "publication-failed": 422,
    "weights-rejected": 422,
    "idempotency-mismatch": 422,
    "unauthenticated": 401,
    "forbidden": 403,
    "csrf": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "too-slow": 408,
    "wrong-state": 409,
    "precondition-failed": 412,
    "too-large": 413,
    "unsupported-media": 415,
    "unsupported-weights": 415,
    "range-not-satisfiable": 416,
    "quota-exceeded": 429,
    "internal": 500,
    "unavailable": 503,
}

_BODY_LEFT_UNREAD = {"too-slow", "too-large"}

logger = logging.getLogger(__name__)


class Problem(BaseModel):
    """The form of every response from 400 up. ``errors`` maps JSON pointers into the body to their faults."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: dict[str, list[str]] | None = None


class MethodNotAllowed(UserError):
    slug, title = "method-not-allowed", "Method not allowed"


def problem_of(error: AtelierError, path: str) -> Problem:
    return Problem(
        **error.describe(),
        status=STATUS_OF[error.slug],
        instance=path,
        errors=error.errors or None,
    )


def render(error: AtelierError, path: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    problem = problem_of(error, path)
    return JSONResponse(
        problem.model_dump(exclude_none=True),
        status_code=problem.status,
        headers={**_headers_of(error), **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def _headers_of(error: AtelierError) -> dict[str, str]:
    if error.slug == "unauthenticated":
        return {"WWW-Authenticate": 'Bearer realm="atelier"'}
    if error.slug in _BODY_LEFT_UNREAD:
        return {"Connection": "close"}  # the rest of the body is not read
    if isinstance(error, UnsupportedCoding):
        return {"Accept-Encoding": "identity"}
    if isinstance(error, RangeNotSatisfiable):
        return {"Accept-Ranges": "bytes", "Content-Range": f"bytes */{error.size}"}
    seconds = RETRY_AFTER_SECONDS if error.slug == "unavailable" else None
    if isinstance(error, QuotaExceeded):
        seconds = error.retry_after_seconds
    return {} if seconds is None else {"Retry-After": str(seconds)}


def translate(error: Exception) -> AtelierError:
    """Any exception as one of our tree. Unexpected ones are logged under a number that the response names."""
    if isinstance(error, AtelierError):
        return error
    if isinstance(error, StorageFull):
        logger.error("storage is full: %s", error)
        return Unavailable("The storage is full: the operator must free space. Nothing of this request was kept.")
    if isinstance(error, StorageUnavailable):
        logger.warning("storage is unavailable: %s", error)
        return Unavailable("The storage does not respond. Try again in a few seconds.")
    if isinstance(error, ObjectNotFound):
        logger.error("a file on record is not in storage: %s", error)
        return NotFound("The file is on record but no longer in storage; ask the operator.")
    number = secrets.token_hex(4)
    logger.error("unexpected error %s", number, exc_info=error)
    return AtelierError(f"This is an error of the service, not of the request. The operator's log has it as {number}.")


def install_handlers(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """For errors that the framework raises itself; ProblemMiddleware handles the rest."""
    app.state.api_routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, AtelierError):  # the framework hides errors raised while it reads a body
        return render(error.__cause__, request.url.path)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _refuse_method(request)
    return render(_error_of_status(request, error), request.url.path)


def _refuse_method(request: Request) -> JSONResponse:
    """The framework's own Allow names the methods of one route, even if several share a path."""
    path, routes = request.url.path, request.app.state.api_routes
    methods = {method for route in routes if route.path_regex.match(path) for method in route.methods}
    allowed = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    method = "HEAD" if is_head(request) else request.method
    error = MethodNotAllowed(f"{method} is not allowed at {path}; allowed: {allowed}.")
    return render(error, path, {"Allow": allowed})


def _error_of_status(request: Request, error: HTTPException) -> AtelierError:
    path = request.url.path
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return NotFound(f"There is nothing at {path}; /openapi.json lists all paths.")
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return TooLarge("The body is too large for this route.")
        case _:
            return InvalidRequest(f"The request could not be read: {error.detail}.")


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return render(error_of_validation(request.url.path, error), request.url.path)


class ProblemMiddleware:
    """Turns any exception raised inside it into a problem document."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, send_noting)
        except ClientDisconnect:
            return
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            await render(translate(error), scope["path"])(scope, receive, send)
