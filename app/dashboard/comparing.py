"""The page that compares two jobs. Its script reads both from the API."""

from fastapi import APIRouter, Request, Response

from app.dashboard.pages import PageRoute, render
from app.dashboard.visits import VisitDep

router = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)


@router.get("/compare")
async def show_comparison(request: Request, browser_session: VisitDep) -> Response:
    return render(request, "compare.html", visit=browser_session, section="jobs")
