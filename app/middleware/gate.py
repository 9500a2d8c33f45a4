"""Checks the key or the dashboard's session before anything else of a request is read: only the routes named here are
open."""

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth import sessions
from app.auth.scopes import find_requirement, require
from app.auth.service import Caller, authenticate
from app.database import acting, opened
from app.services import Services
from core.db import keys
from core.domain.errors import Unauthenticated

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/docs", "/ui"})
OPEN_BELOW = ("/ui/", "/docs/", "/share/")
"""The dashboard checks its own cookie, shared pages the secret in their address; the docs' scripts are public."""


class Gate:
    """Leaves the Caller in ``request.state.caller``, and the database acts for its tenant from then on. Of a GET, the
    transaction that found the caller goes on with the request's first work; it ends with the answer at the latest.

    Raises Unauthenticated or Forbidden.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            acting.set(None)  # a server may handle one connection's requests in one context
            opened.set(None)
            if not is_open(scope["path"]):
                await self._pass(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        services: Services = scope["app"].state.services

        async def send_after_end(message: Message) -> None:
            if (left := opened.get()) is not None:
                await services.database.end(left)
            await send(message)

        try:
            caller = await find_caller(scope)
            require(caller, find_requirement(scope["method"], scope["path"]))
            scope.setdefault("state", {})["caller"] = caller
            await self.app(scope, receive, send_after_end)
        finally:
            if (left := opened.get()) is not None:
                await services.database.end(left)


def is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_BELOW)


async def find_caller(scope: Scope) -> Caller:
    """By the key or, without one, by the dashboard's cookie. The database acts for the caller's tenant from then on.
    Raises Unauthenticated, CrossSite."""
    request = Request(scope)
    token = sessions.read_cookie(request)
    if token is None or "authorization" in request.headers:
        return await find_caller_by_key(scope)
    sessions.check_own_pages(request)
    services: Services = scope["app"].state.services
    browser_session = await services.database.run(sessions.find_browser_session, services.settings, token)
    sessions.check_header(browser_session, request)
    scope.setdefault("state", {})["browser_session"] = browser_session
    acting.set(browser_session.caller.as_actor(address_of(scope)))
    return browser_session.caller


async def find_caller_by_key(scope: Scope) -> Caller:
    """The database acts for the caller's tenant from then on. Records the key's use. Raises Unauthenticated."""
    services: Services = scope["app"].state.services
    database, key, address = services.database, read_key(Headers(scope=scope)), address_of(scope)
    if scope["method"] == "GET":
        found, left = await database.open(authenticate, services.settings, key, address)
        if found.key is None:
            opened.set(left)
        else:  # its use has a transaction of its own
            await database.end(left)
    else:  # which may wait for a body
        found = await database.run(authenticate, services.settings, key, address)
    acting.set(found.caller.as_actor(address))
    if found.key is not None:
        await database.run(keys.note_use, found.key)
    return found.caller


def read_key(headers: Headers) -> str:
    """Raises Unauthenticated. With two headers, a proxy may have checked the other one: both are refused."""
    given = headers.getlist("authorization")
    scheme, _, key = (given[0] if len(given) == 1 else "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthenticated("Send your API key in the header, once: Authorization: Bearer atl_…")
    return key.strip()


def address_of(scope: Scope) -> str:
    """The client's address; behind a proxy the one it forwards, if the server trusts it."""
    client = scope.get("client")
    return str(client[0]) if client else ""
