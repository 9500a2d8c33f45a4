"""Pages of other origins may call the API if ATELIER_CORS_ORIGINS lists them; none by default.

Never with credentials: a page sends its own API key in a header, and the dashboard's cookie stays the dashboard's.
"""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.services import Services

DASHBOARD = "/ui"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
TAKEN = (
    "Accept",
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "If-Range",
    "Last-Event-ID",
    "Range",
)
SHOWN = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Idempotent-Replayed",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
)


class CrossOrigins:
    """Starlette's CORSMiddleware, once the settings are read; outermost, so that refusals are readable and preflights,
    which carry no key, are answered."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._opened: CORSMiddleware | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        chosen = self._open(scope) if scope["type"] == "http" and not is_dashboard(scope["path"]) else None
        await (chosen or self.app)(scope, receive, send)

    def _open(self, scope: Scope) -> CORSMiddleware | None:
        services: Services = scope["app"].state.services
        origins = services.settings.cors_origins
        if self._opened is None and origins:
            self._opened = CORSMiddleware(
                self.app,
                allow_origins=origins,
                allow_methods=METHODS,
                allow_headers=TAKEN,
                expose_headers=SHOWN,
                allow_credentials=False,
            )
        return self._opened


def is_dashboard(path: str) -> bool:
    return path == DASHBOARD or path.startswith(f"{DASHBOARD}/")
