"""The playground: pictures that a base draws with a stack of adapters."""

from fastapi import APIRouter, Request, Response

from app.auth.scopes import allows
from app.dashboard.pages import PageRoute, render
from app.dashboard.visits import VisitDep

router = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)


@router.get("/playground")
async def show_playground(request: Request, browser_session: VisitDep) -> Response:
    """Its script reads `?adapter=ad_…:0.8`, `?job=job_…&step=200` and `?generation=gen_…`."""
    may_draw = allows(browser_session.caller.scopes, "jobs")
    return render(request, "playground.html", visit=browser_session, section="playground", may_draw=may_draw)
