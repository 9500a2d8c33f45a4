"""The routes under /ui: login, the lists, a job, a dataset, and the pages' files. The pages that do things have
modules of their own, such as studio.py."""

import asyncio
import contextlib
import json
import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from sqlalchemy.orm import Session
from sse_starlette import EventSourceResponse

from app.auth import sessions
from app.auth.scopes import allows, require
from app.auth.sessions import BrowserSession
from app.conditions import is_known
from app.dashboard.live import Cursor, read_page_updates, stream_updates
from app.dashboard.pages import STATIC, PageRoute, go_to, render, safe_next
from app.dashboard.strings import LANGUAGES, load_script_texts
from app.dashboard.views import DatasetView, JobView, describe_plan
from app.dashboard.visits import VisitDep, get_visit
from app.datasets.service import find_image, read_images
from app.deps import PLAIN, After, Id, ServicesDep
from app.files import PNG, send_file
from app.jobs import service, stream
from app.jobs.downloads import Step, find_adapter, find_grid, find_sample
from app.jobs.service import list_page
from app.middleware.gate import address_of, find_caller_by_key
from app.services import Services
from core.db import datasets, jobs
from core.domain.artifacts import AdapterFormat
from core.domain.errors import NotFound, Unauthenticated, WrongState
from core.domain.states import DatasetStatus

PAGE_SIZE = 25
KEY_LENGTH = 200

STATIC_NAME = re.compile(r"[a-z][a-z-]*\.(css|js|svg)")
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

router = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)


Index = Annotated[int, Path(ge=0, le=1000)]
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


@router.get("/jobs")
async def show_jobs(
    request: Request, services: ServicesDep, browser_session: VisitDep, after: After = None
) -> Response:
    listed = await list_jobs(services, browser_session, after)
    return render(request, "jobs.html", visit=browser_session, section="jobs", **listed)


@router.get("/jobs/rows")
async def show_job_rows(
    request: Request, services: ServicesDep, browser_session: VisitDep, after: After = None
) -> Response:
    """The table's body alone; the page fetches it when something has changed."""
    return render(request, "job_rows.html", visit=browser_session, **await list_jobs(services, browser_session, after))


async def list_jobs(services: Services, browser_session: BrowserSession, after: str | None) -> dict[str, Any]:
    rows, has_more, places = await services.database.run(
        list_page, browser_session.caller.tenant_id, status=None, model=None, after=after, limit=PAGE_SIZE
    )
    shown = [JobView.of(row, places.get(row.id)) for row in rows]
    return {"jobs": shown, "has_more": has_more, "after": after}


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
        plan=describe_plan(job.outline),
        result=job.result,
    )


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
    return stream.respond(stream_updates(services, browser_session.caller, job_id, cursor))


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


@router.get("/jobs/{job_id}/samples/{step}/grid.png")
async def show_grid(
    request: Request, job_id: Id, step: Step, services: ServicesDep, browser_session: VisitDep
) -> Response:
    file = await services.database.run(find_grid, browser_session.caller.tenant_id, job_id, step)
    return await send_image(request, services, file.key, file.sha256)


@router.get("/jobs/{job_id}/samples/{step}/{index}.png")
async def show_sample(
    request: Request, job_id: Id, step: Step, index: Index, services: ServicesDep, browser_session: VisitDep
) -> Response:
    file = await services.database.run(find_sample, browser_session.caller.tenant_id, job_id, step, index)
    return await send_image(request, services, file.key, file.sha256)


async def send_image(request: Request, services: Services, key: str, sha256: str) -> Response:
    """Always through this service: the page's policy allows images from nowhere else."""
    headers = {"ETag": f'"{sha256}"', "Cache-Control": "private, max-age=600"}
    if is_known(request.headers, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(await asyncio.to_thread(services.storage.read, key), media_type=PNG, headers=headers)


@router.get("/jobs/{job_id}/adapter")
async def download_adapter(
    request: Request,
    job_id: Id,
    services: ServicesDep,
    browser_session: VisitDep,
    adapter_format: Annotated[AdapterFormat, Query(alias="format")] = "kohya",
) -> Response:
    file = await services.database.run(find_adapter, browser_session.caller.tenant_id, job_id, adapter_format)
    return await send_file(request, services.storage, file)


# --- datasets ---------------------------------------------------------------------------------------------


@router.get("/datasets")
async def show_datasets(
    request: Request, services: ServicesDep, browser_session: VisitDep, after: After = None
) -> Response:
    rows, has_more = await services.database.run(
        datasets.list_datasets, browser_session.caller.tenant_id, after=after, limit=PAGE_SIZE
    )
    found = [DatasetView.of(row) for row in rows]
    return render(
        request,
        "datasets.html",
        visit=browser_session,
        section="datasets",
        datasets=found,
        has_more=has_more,
        after=after,
    )


@router.get("/datasets/{dataset_id}")
async def show_dataset(request: Request, dataset_id: Id, services: ServicesDep, browser_session: VisitDep) -> Response:
    shown = await services.database.run(read_dataset, browser_session.caller.tenant_id, dataset_id)
    return render(request, "dataset.html", visit=browser_session, section="datasets", dataset=shown)


def read_dataset(session: Session, tenant_id: str, dataset_id: str) -> DatasetView:
    """Raises NotFound."""
    row = datasets.get_dataset(session, tenant_id, dataset_id)
    images = read_images(session, tenant_id, dataset_id) if row.status == DatasetStatus.READY else ()
    return DatasetView.of(row, images)


@router.get("/datasets/{dataset_id}/images/{sha256}.png")
async def show_dataset_image(
    request: Request, dataset_id: Id, sha256: str, services: ServicesDep, browser_session: VisitDep
) -> Response:
    image = await services.database.run(find_image, browser_session.caller.tenant_id, dataset_id, sha256)
    return await send_image(request, services, image.key, image.sha256)


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
