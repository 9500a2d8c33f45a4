"""HTML responses: templates, their headers, and errors as pages for browsers."""

from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context

from app.auth.sessions import BrowserSession, LoginNeeded
from app.dashboard.navigation import list_entries, list_service_entries
from app.dashboard.strings import choose_language, translate
from app.problems import problem_of
from core.domain.errors import AtelierError, NotFound

HERE = Path(__file__).parent
STATIC = HERE / "static"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
    "Vary": "Accept-Language",
}

templates = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def show_time(moment: datetime) -> str:
    """For browsers without scripts; with them ``times.js`` says how long ago it was."""
    return moment.strftime("%Y-%m-%d %H:%M UTC")


@pass_context
def show_duration(context: Context, seconds: float) -> str:
    """``32 s``, ``12 min 5 s`` or ``3 h 7 min``, as ``times.js`` writes it."""
    whole = round(seconds)
    unit = "s" if whole < 60 else "min" if whole < 3600 else "h"
    minutes = whole // 60 % 60 if unit == "h" else whole // 60
    return str(context["t"](f"duration.{unit}", h=whole // 3600, min=minutes, s=whole % 60))


templates.filters.update(time=show_time, duration=show_duration)


def render(
    request: Request,
    template: str,
    status_code: int = 200,
    *,
    visit: BrowserSession | None = None,
    section: str | None = None,
    **context: Any,
) -> HTMLResponse:
    """``visit``: who is logged in; ``section``: the page's entry in the menu. Templates have ``t(key, **values)``."""
    language = choose_language(request)
    entries = list_entries(visit.caller) if visit else []
    shared = {"t": partial(translate, language), "language": language, "visit": visit, "entries": entries}
    shared["service_entries"] = list_service_entries(visit.caller) if visit else []
    content = templates.get_template(template).render({**shared, "section": section, **context})
    return HTMLResponse(content, status_code, headers=HEADERS)


def wants_page(request: Request) -> bool:
    """Whether a person's browser navigates, rather than a script that fetches data."""
    mode = request.headers.get("sec-fetch-mode", "navigate")
    return mode == "navigate" and "text/html" in request.headers.get("accept", "")


def go_to(path: str) -> RedirectResponse:
    """After a form was sent: the browser fetches the next page by GET."""
    return RedirectResponse(path, status_code=303)


def login_path(request: Request) -> str:
    """The login page, which then leads to the page that the browser requested."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"/ui/login?next={quote(wanted)}" if request.method == "GET" else "/ui/login"


def safe_next(path: str | None) -> str:
    """Only pages of the dashboard: browsers read `//elsewhere` and `/\\elsewhere` as other sites."""
    if path and path.startswith("/ui/") and not any(character in path for character in "\\\r\n\t") and "//" not in path:
        return path
    return "/ui"


class PageRoute(APIRoute):
    """Shows errors as pages, and redirects visitors without a session to the login."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_with_pages(request: Request) -> Response:
            try:
                return await handle(request)
            except (AtelierError, RequestValidationError) as error:
                if not wants_page(request):
                    raise
                return error_page(request, error)

        return handle_with_pages


def error_page(request: Request, error: AtelierError | RequestValidationError) -> Response:
    if isinstance(error, LoginNeeded):
        return go_to(login_path(request))
    if isinstance(error, RequestValidationError):
        error = NotFound("This page does not exist.")
    problem = problem_of(error, request.url.path)
    return render(request, "error.html", problem.status, title=problem.title, detail=problem.detail)
