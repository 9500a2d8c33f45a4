"""GET /docs: Swagger UI over /openapi.json, from local files, under a policy that allows no others."""

import base64
import hashlib
import re
from importlib.resources import as_file, files
from typing import Literal

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse

Asset = Literal["swagger-ui-bundle.js", "swagger-ui.css"]

router = APIRouter()


@router.get("/docs", include_in_schema=False)
async def show_docs() -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Atelier",
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="data:,",
    )
    scripts = re.findall(r"<script>(.*?)</script>", bytes(page.body).decode(), re.DOTALL)
    page.headers["Content-Security-Policy"] = "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' {' '.join(map(_hash_source, scripts))}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ]
    )
    return page


@router.get("/docs/{name}", include_in_schema=False)
async def show_asset(name: Asset) -> FileResponse:
    """From the package that ships Swagger UI for services without a network."""
    with as_file(files("fastapi_offline") / "static" / name) as path:
        return FileResponse(path, headers={"Cache-Control": "public, max-age=86400"})


def _hash_source(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
