"""The library of adapters, and the page of one."""

from fastapi import APIRouter, Request, Response

from app.auth.scopes import allows
from app.dashboard.pages import PageRoute, render
from app.dashboard.visits import VisitDep
from app.deps import Id, ServicesDep
from core.db import adapters
from core.domain.links import DEFAULT_SECONDS

DAY_SECONDS = 86_400
LINK_DAYS = (1, DEFAULT_SECONDS // DAY_SECONDS, 30, 365)
"""For how long a link may be made on the page."""

router = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)


@router.get("/adapters")
async def show_adapters(request: Request, browser_session: VisitDep) -> Response:
    """Its script keeps what is searched for in the address."""
    may_import = allows(browser_session.caller.scopes, "jobs")
    return render(request, "adapters.html", visit=browser_session, section="adapters", may_import=may_import)


@router.get("/adapters/{adapter_id}")
async def show_adapter(request: Request, adapter_id: Id, services: ServicesDep, browser_session: VisitDep) -> Response:
    adapter = await services.database.run(adapters.get_adapter, browser_session.caller.tenant_id, adapter_id)
    return render(
        request,
        "adapter.html",
        visit=browser_session,
        section="adapters",
        may_change=allows(browser_session.caller.scopes, "jobs"),
        adapter_id=adapter.id,
        name=adapter.name,
        link_days=LINK_DAYS,
        default_days=DEFAULT_SECONDS // DAY_SECONDS,
        day_seconds=DAY_SECONDS,
    )
