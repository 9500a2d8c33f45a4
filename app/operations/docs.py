"""GET /docs: Swagger UI over /openapi.json, under a policy that admits its own script and the CDN it comes from."""

import base64
import hashlib
import re

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

CDN = "https://cdn.jsdelivr.net"

router = APIRouter()


@router.get("/docs", include_in_schema=False)
async def show_docs() -> HTMLResponse:
    page = get_swagger_ui_html(openapi_url="/openapi.json", title="Atelier", swagger_favicon_url="")
    scripts = re.findall(r"<script>(.*?)</script>", bytes(page.body).decode(), re.DOTALL)
    page.headers["Content-Security-Policy"] = "; ".join(
        [
            "default-src 'none'",
            f"script-src {CDN} {' '.join(map(_hash_source, scripts))}",
            f"style-src {CDN} 'unsafe-inline'",
            "img-src data:",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ]
    )
    return page


def _hash_source(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
