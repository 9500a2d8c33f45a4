"""The routes under /ui: login, a job, and the pages' files. The other pages have modules of their own, such as
studio.py."""

import contextlib
import json
import re
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from sse_starlette import EventSourceResponse

from app.auth import sessions
from app.auth.scopes import allows, require
from app.dashboard.live import Cursor, read_page_updates, stream_updates
from app.dashboard.pages import STATIC, PageRoute, go_to, render, safe_next
from app.dashboard.strings import LANGUAGES, load_script_texts
from app.dashboard.views import JobView
from app.dashboard.visits import VisitDep, get_visit
from app.deps import PLAIN, Id, ServicesDep
from app.jobs import service
from app.media import send_events
from app.middleware.gate import address_of, find_caller_by_key
from core.db import adapters, jobs
from core.domain.errors import NotFound, Unauthenticated, WrongState

KEY_LENGTH = 200

STATIC_NAME = re.compile(r"[a-z][a-z-]*\.(css|js|svg)")
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

router = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)


SameSite = Depends(sessions.refuse_cross_site)
Token = Annotated[str, Form(max_length=KEY_LENGTH, pattern=PLAIN)]


# --- login and logout -------------------------------------------------------------------------------------


@router.post("/tokens", status_code=201)
async def make_link(request: Request, services: ServicesDep) -> JSONResponse:
    """For the holder of an API key: an address that opens one dashboard session, once, within ten minutes."""
    caller = await find_caller_by_key(request.scope)
    token = await services.database.run(sessions.open_link, caller)
    url = str(request.base_url.replace(path="/ui/login", query=f"token={token}"))
    return JSONResponse({"token": token, "url": url, "expires_in_seconds": sessions.LINK_SECONDS}, 201)


@router.get("/login")
async def show_login(
    request: Request,
    token: Annotated[str | None, Query(max_length=KEY_LENGTH)] = None,
    next_path: Annotated[str | None, Query(alias="next", max_length=500)] = None,
) -> Response:
    """Only the page's form uses up the link: link previews, and links on other sites, do no harm."""
    return render(request, "login.html", token=token, next_path=safe_next(next_path), error=None)


@router.post("/login", dependencies=[SameSite])
async def log_in(
    request: Request,
    services: ServicesDep,
    token: Token = "",
    api_key: Token = "",
    next_path: Annotated[str, Form(alias="next", max_length=500)] = "",
) -> Response:
    address = address_of(request.scope)
    try:
        if token:
            opened = await services.database.run(sessions.log_in_by_link, services.settings, token, address)
        else:
            opened = await services.database.run(sessions.log_in_by_key, services.settings, api_key.strip(), address)
    except Unauthenticated as error:
        return render(request, "login.html", 401, token=None, next_path=safe_next(next_path), error=error.detail)
    response = go_to(safe_next(next_path))
    sessions.set_cookie(request, response, opened)
    return response


@router.post("/logout", dependencies=[SameSite])
async def log_out(request: Request, services: ServicesDep, browser_session: VisitDep, csrf: Token = "") -> Response:
    sessions.check_csrf(browser_session, csrf)
    await services.database.run(sessions.log_out, browser_session, sessions.read_cookie(request) or "")
    response = go_to("/ui/login")
    sessions.clear_cookie(request, response)
    return response


@router.get("/session")
async def show_session(browser_session: VisitDep) -> JSONResponse:
    """For a page whose session has ended and that goes on with a new one."""
    caller = browser_session.caller
    return JSONResponse({"csrf": browser_session.csrf, "key": caller.key_id}, headers={"Cache-Control": "no-store"})


# --- jobs -------------------------------------------------------------------------------------------------


@router.get("/jobs/{job_id}")
async def show_job(request: Request, job_id: Id, services: ServicesDep, browser_session: VisitDep) -> Response:
    job = await services.database.run(jobs.get_job, browser_session.caller.tenant_id, job_id)
    return render(
        request,
        "job.html",
        visit=browser_session,
        section="jobs",
        may_change=allows(browser_session.caller.scopes, "jobs"),
        job=JobView.of(job),
    )


@router.get("/jobs/{job_id}/adapter")
async def show_jobs_adapter(job_id: Id, services: ServicesDep, browser_session: VisitDep) -> Response:
    """Leads to the page of the adapter that the job has made. Raises NotFound without one."""
    adapter = await services.database.run(adapters.get_adapter_of_job, browser_session.caller.tenant_id, job_id)
    return go_to(f"/ui/adapters/{adapter.id}")


@router.get("/jobs/{job_id}/stream")
async def stream_job(
    job_id: Id,
    services: ServicesDep,
    browser_session: VisitDep,
    after: Annotated[str | None, Query(max_length=60)] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> EventSourceResponse:
    cursor = Cursor.parse(last_event_id or after)
    # NotFound before the stream begins
    await services.database.run(read_page_updates, browser_session.caller, job_id, cursor)
    return send_events(stream_updates(services, browser_session.caller, job_id, cursor))


@router.post("/jobs/{job_id}/{action}", dependencies=[SameSite])
async def change_job(
    job_id: Id,
    action: Annotated[str, Path(pattern="^(cancel|pause|resume)$")],
    services: ServicesDep,
    browser_session: VisitDep,
    csrf: Token = "",
) -> Response:
    """A change that has become impossible meanwhile is not an error: the page shows the job's current state."""
    sessions.check_csrf(browser_session, csrf)
    require(browser_session.caller, "jobs")
    change = {"cancel": service.cancel, "pause": service.pause, "resume": service.resume}[action]
    with contextlib.suppress(WrongState):
        await change(services, browser_session.caller.tenant_id, job_id)
    return go_to(f"/ui/jobs/{job_id}")


# --- files of the pages -----------------------------------------------------------------------------------


@router.get("/strings/{language}.js")
async def send_strings(language: str, page: Annotated[str | None, Query(pattern=r"^[a-z-]+$")] = None) -> Response:
    """The texts of the scripts as a module; of one page's, if it is named by its module."""
    if language not in LANGUAGES or (page is not None and not (STATIC / f"{page}.js").is_file()):
        raise NotFound("There is no such file.")
    content = f"export default {json.dumps(load_script_texts(language, page), ensure_ascii=False)};\n"
    return Response(content, media_type="text/javascript", headers={"Cache-Control": "no-cache"})


@router.get("/static/{name}")
async def send_static(name: str) -> Response:
    file = STATIC / name
    if not STATIC_NAME.fullmatch(name) or not file.is_file():
        raise NotFound("There is no such file.")
    return FileResponse(file, media_type=MEDIA_TYPES[file.suffix], headers={"Cache-Control": "no-cache"})


@router.get("/{path:path}", dependencies=[Depends(get_visit)])
async def show_nothing(path: str) -> Response:
    if not path:
        return go_to("/ui")
    raise NotFound(f"There is no page {path} here.")
