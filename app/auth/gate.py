"""Asks for the key before anything else of a request is looked at: no route is open that is not named here."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.auth.service import Caller, authenticate
from app.services import Services
from core.domain.errors import Unauthenticated

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/docs", "/ui"})
OPEN_BELOW = "/ui/"
"""The dashboard asks for its own cookie."""


class Gate:
    """Leaves the Caller in ``request.state.caller``. Raises Unauthenticated."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"]):
            scope.setdefault("state", {})["caller"] = await find_caller(scope)
        await self.app(scope, receive, send)


def is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_BELOW)


async def find_caller(scope: Scope) -> Caller:
    services: Services = scope["app"].state.services
    scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthenticated("Send your API key in the header: Authorization: Bearer atl_…")
    return await services.database.run(authenticate, services.settings, key.strip())
