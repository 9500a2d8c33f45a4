"""The pages that do things, by scripts that call the public API: home, and a new job."""

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from app.auth.scopes import allows, require
from app.dashboard.example import EXAMPLE, list_example
from app.dashboard.options import PRESETS, SPEC_HELP, list_groups
from app.dashboard.pages import PageRoute, render
from app.dashboard.visits import VisitDep, get_visit
from core.domain.dataset import ARCHIVE_SUFFIXES, CAPTION_SUFFIXES, IMAGE_SUFFIXES
from core.domain.errors import NotFound
from core.domain.metadata import METADATA_NAMES

KINDS = {
    "images": sorted(IMAGE_SUFFIXES),
    "archives": ARCHIVE_SUFFIXES,
    "captions": CAPTION_SUFFIXES,
    "metadata": METADATA_NAMES,
}
"""The files of a dataset, by how their names end; metadata by the whole name."""

router = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)


@router.get("")
async def show_home(request: Request, browser_session: VisitDep) -> Response:
    may_start = allows(browser_session.caller.scopes, "jobs")
    return render(
        request,
        "home.html",
        visit=browser_session,
        section="home",
        may_start=may_start,
        has_example=bool(list_example()),
    )


@router.get("/new")
async def show_new_job(request: Request, browser_session: VisitDep) -> Response:
    require(browser_session.caller, "jobs")
    often, groups = list_groups()
    return render(
        request,
        "new.html",
        visit=browser_session,
        section="new",
        kinds=KINDS,
        often=often,
        groups=groups,
        presets=PRESETS,
        spec_help=SPEC_HELP,
    )


@router.get("/example", dependencies=[Depends(get_visit)])
async def show_example() -> JSONResponse:
    """The files of the bundled example set, for a page that uploads them."""
    return JSONResponse({"name": EXAMPLE.name, "files": list_example()}, headers={"Cache-Control": "no-store"})


@router.get("/example/{name}", dependencies=[Depends(get_visit)])
async def send_example(name: str) -> Response:
    if name not in list_example():
        raise NotFound("There is no such file.")
    return FileResponse(EXAMPLE / name)
