"""Who looks at a page: a dependency of every route under /ui that needs a session."""

from typing import Annotated

from fastapi import Depends, Request

from app.auth import sessions
from app.auth.scopes import SAFE_METHODS, require
from app.auth.sessions import BrowserSession
from app.database import acting
from app.deps import ServicesDep
from app.middleware.gate import address_of


async def get_visit(request: Request, services: ServicesDep) -> BrowserSession:
    """The database acts for the visitor's tenant from then on. Routes that change something check their scope.

    Raises LoginNeeded, and Forbidden for a page view without the scope `read`.
    """
    token = sessions.read_cookie(request)
    browser_session = await services.database.run(sessions.find_browser_session, services.settings, token)
    require(browser_session.caller, "read" if request.method in SAFE_METHODS else None)
    acting.set(browser_session.caller.as_actor(address_of(request.scope)))
    return browser_session


VisitDep = Annotated[BrowserSession, Depends(get_visit)]
