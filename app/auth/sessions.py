"""Dashboard logins: one-time links, the sessions they become, and the cookie that carries a session.

A token is 32 random bytes; the database keeps its hash. A session belongs to the API key that opened it, acts with that
key's scopes, and ends with it. docs/adr/0016-sessions-at-the-api.md says why the API may accept the cookie.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Literal, TypedDict
from urllib.parse import urlsplit

from fastapi import Request, Response
from sqlalchemy.orm import Session

from app.auth.scopes import SAFE_METHODS
from app.auth.service import Caller, caller_of, find_valid_key
from core.db import audit, keys
from core.db.row_security import act_as
from core.db.tables import ApiKey
from core.domain.audit import Action
from core.domain.errors import CrossSite, Unauthenticated
from core.settings import Settings

LINK_SECONDS = 10 * 60
SESSION_SECONDS = 7 * 24 * 3600
CSRF_HEADER = "X-CSRF-Token"


class CookieAttributes(TypedDict):
    path: str
    httponly: bool
    samesite: Literal["strict"]
    secure: bool


class LoginNeeded(Unauthenticated):
    """There is no session, or it has ended. Pages lead to the login instead."""


@dataclass(frozen=True)
class BrowserSession:
    """A logged-in browser. Each of its forms, and each changing request of its scripts, carries ``csrf``.

    ``key_sha256``: the hash of the key that opened it.
    """

    caller: Caller
    csrf: str
    key_sha256: str


def open_link(session: Session, caller: Caller) -> str:
    """A token that opens one session within LINK_SECONDS."""
    audit.record(session, Action.DASHBOARD_LINKED, caller.key_id)
    return _add(session, "login", keys.get_key(session, caller.tenant_id, caller.key_id), LINK_SECONDS)


def log_in_by_link(session: Session, settings: Settings, token: str, address: str) -> str:
    """Raises Unauthenticated. The token is used up."""
    key = keys.take_token(session, hash_token(token), "login")
    if key is None:
        raise Unauthenticated(
            "This link was used before, or is older than ten minutes. Run `atelier login` for a new one, "
            "or paste your API key."
        )
    return _open_session(session, settings, key, address)


def log_in_by_key(session: Session, settings: Settings, api_key: str, address: str) -> str:
    """Raises Unauthenticated."""
    return _open_session(session, settings, find_valid_key(session, api_key), address)


def _open_session(session: Session, settings: Settings, key: ApiKey, address: str) -> str:
    act_as(session, caller_of(key, settings).as_actor(address))
    audit.record(session, Action.DASHBOARD_OPENED, key.id)
    return _add(session, "session", key, SESSION_SECONDS)


def log_out(session: Session, browser_session: BrowserSession, token: str) -> None:
    keys.drop_token(session, hash_token(token))
    audit.record(session, Action.DASHBOARD_CLOSED, browser_session.caller.key_id)


def find_browser_session(session: Session, settings: Settings, token: str | None) -> BrowserSession:
    """Raises LoginNeeded."""
    key = keys.find_token(session, hash_token(token), "session") if token else None
    if key is None or token is None:
        raise LoginNeeded("Log in to the dashboard first.")
    return BrowserSession(caller_of(key, settings, hash_token(token)), csrf_of(token), key.sha256)


def _add(session: Session, kind: keys.TokenKind, key: ApiKey, lifetime_seconds: float) -> str:
    token = secrets.token_urlsafe(32)
    keys.add_token(session, sha256=hash_token(token), kind=kind, key=key, lifetime_seconds=lifetime_seconds)
    return token


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def csrf_of(token: str) -> str:
    """Derived, so that nothing more is stored; the session's token cannot be computed from it."""
    return hmac.new(token.encode(), b"csrf", "sha256").hexdigest()


# --- the cookie -------------------------------------------------------------------------------------------


def cookie_name(request: Request) -> str:
    """On plain HTTP the name has the port in it: browsers send a host's cookies to every port of it."""
    if request.url.scheme == "https":
        return "__Host-atelier"
    return f"atelier-{request.url.port or 80}"


def read_cookie(request: Request) -> str | None:
    return request.cookies.get(cookie_name(request))


def set_cookie(request: Request, response: Response, token: str) -> None:
    response.set_cookie(cookie_name(request), token, max_age=SESSION_SECONDS, **_attributes(request))


def clear_cookie(request: Request, response: Response) -> None:
    response.delete_cookie(cookie_name(request), **_attributes(request))


def _attributes(request: Request) -> CookieAttributes:
    return {"path": "/", "httponly": True, "samesite": "strict", "secure": request.url.scheme == "https"}


# --- requests that change something -----------------------------------------------------------------------


def check_own_pages(request: Request) -> None:
    """For a request to the API by the cookie: only the dashboard's own pages may send it. Raises CrossSite.

    What only reads may lack Sec-Fetch-Site, which browsers send to secure places alone: the cookie is SameSite=strict,
    and no other origin can read an answer. ``none`` is an address that the user opened.
    """
    if request.method not in SAFE_METHODS:
        refuse_cross_site(request)
    elif request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise CrossSite("Another site cannot read this. Open the dashboard itself.")


def check_header(browser_session: BrowserSession, request: Request) -> None:
    """Raises CrossSite for a change without the session's own token in CSRF_HEADER."""
    if request.method not in SAFE_METHODS:
        check_csrf(browser_session, request.headers.get(CSRF_HEADER, ""))


def refuse_cross_site(request: Request) -> None:
    """Raises CrossSite unless the browser says that the request comes from this site.

    Browsers send Sec-Fetch-Site only to secure places (https, loopback); they send Origin with every POST.
    """
    site = request.headers.get("sec-fetch-site")
    origin = urlsplit(request.headers.get("origin", ""))
    same = site == "same-origin" if site else bool(origin.netloc) and origin.netloc == request.headers.get("host")
    if not same:
        raise CrossSite("Do this from the dashboard itself.")


def check_csrf(browser_session: BrowserSession, given: str) -> None:
    """Raises CrossSite."""
    if not hmac.compare_digest(browser_session.csrf.encode(), given.encode()):
        raise CrossSite("This page belongs to an earlier session. Load it again and repeat the action.")
