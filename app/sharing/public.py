"""The routes under /share: what a link opens, without a key. The secret is in the path."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.adapters.covers import cover_of
from app.adapters.service import file_of
from app.deps import ServicesDep
from app.files import PNG, send_file
from app.limits.buckets import Policy
from app.methods import is_head
from app.middleware.gate import address_of
from app.middleware.rates import network_of
from app.services import Services
from core.db import links
from core.db.tables import Adapter, AdapterLink
from core.domain.artifacts import ADAPTER_FORMATS, AdapterFormat
from core.domain.errors import NotFound, QuotaExceeded
from core.domain.links import check_link_secret, hash_link_secret
from core.domain.model import FAMILY_FACTS
from core.domain.proof import LoadProof, Tool
from core.storage.disposition import make_filename

HERE = Path(__file__).parent
PRIVATE = {
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
    "Cache-Control": "no-store",
}
PAGE = {
    **PRIVATE,
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
STATIC_TYPES = {"share.css": "text/css", "share.js": "text/javascript"}
GONE = "This link is unknown, was revoked, or has expired. Ask whoever gave it to you for another."

router = APIRouter(prefix="/share", include_in_schema=False)

_templates = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


async def limit_rate(request: Request, services: ServicesDep) -> None:
    """By address: as many requests as a key may send, and as many unknown secrets as there may be invalid keys."""
    settings, address = services.settings, network_of(address_of(request.scope))
    failures = await services.buckets.peek(_failures(services), address)
    if failures is not None and failures.tokens < 1:
        raise QuotaExceeded(
            "Too many unknown links from this address. Wait as long as Retry-After says.",
            retry_after_seconds=failures.seconds_until_next,
        )
    policy = Policy("share", settings.rate_per_minute, settings.rate_burst)
    level = await services.buckets.take(policy, address)
    if level is not None and not level.taken:
        raise QuotaExceeded(
            "Too many requests from this address. Wait as long as Retry-After says.",
            retry_after_seconds=level.seconds_until_next,
        )


def _failures(services: Services) -> Policy:
    limit = services.settings.failures_per_minute
    return Policy("share-failures", limit, limit)


RateLimited = Depends(limit_rate)


@dataclass(frozen=True)
class OfferedFile:
    """A download on the page. ``size`` in bytes."""

    title: str
    tools: list[Tool]
    url: str
    filename: str
    size: int
    sha256: str


TOOL_NAMES: dict[Tool, str] = {
    "comfyui": "ComfyUI", "a1111": "A1111/Forge", "sd-scripts": "sd-scripts", "diffusers": "diffusers",
}  # fmt: skip
MADE_FOR: dict[AdapterFormat, tuple[Tool, ...]] = {
    "kohya": ("comfyui", "a1111", "sd-scripts"),
    "diffusers": ("diffusers",),
}


@router.get("/static/{name}")
async def send_static(name: str) -> Response:
    if name not in STATIC_TYPES:
        raise NotFound("There is no such file.")
    path = HERE / "templates" / name
    return FileResponse(path, media_type=STATIC_TYPES[name], headers={"Cache-Control": "no-cache"})


@router.get("/{secret}", dependencies=[RateLimited])
async def show_adapter(secret: str, request: Request, services: ServicesDep) -> Response:
    """The page: what the adapter is, how to use it, and its files."""
    try:
        link, adapter = await _open(request, services, secret, views=0 if is_head(request) else 1)
    except NotFound:
        return _render("gone.html", 404, message=GONE)
    files = _list_files(adapter, f"/share/{secret}/download")
    return _render(
        "adapter.html",
        adapter=adapter,
        family=FAMILY_FACTS[adapter.family].title,
        cover=f"/share/{secret}/cover.png" if adapter.cover else None,
        files=files,
        titles=TOOL_NAMES,
        tools=[(tool, file.filename) for file in files for tool in file.tools],
        expires_at=link.expires_at.strftime("%Y-%m-%d %H:%M UTC"),
    )


@router.get("/{secret}/cover.png", dependencies=[RateLimited])
async def show_cover(secret: str, request: Request, services: ServicesDep) -> Response:
    """Always through this service: the page's policy allows images from nowhere else."""
    _, adapter = await _open(request, services, secret)
    cover = cover_of(adapter)
    return Response(await asyncio.to_thread(services.storage.read, cover.key), media_type=PNG, headers=PRIVATE)


@router.get("/{secret}/download", dependencies=[RateLimited])
async def download_shared_adapter(
    secret: str,
    request: Request,
    services: ServicesDep,
    adapter_format: Annotated[AdapterFormat, Query(alias="format")] = "kohya",
) -> Response:
    begins = not is_head(request) and request.headers.get("range", "bytes=0-").startswith("bytes=0-")
    _, adapter = await _open(request, services, secret, downloads=1 if begins else 0)
    response = await send_file(request, services.storage, file_of(adapter, adapter_format))
    response.headers.update(PRIVATE)
    return response


async def _open(
    request: Request, services: Services, secret: str, *, views: int = 0, downloads: int = 0
) -> tuple[AdapterLink, Adapter]:
    """Raises NotFound, the same for links that are unknown, revoked and expired."""
    found = None
    if check_link_secret(secret):
        found = await services.database.run(links.open_link, hash_link_secret(secret), views=views, downloads=downloads)
    if found is None:
        address = network_of(address_of(request.scope))
        await services.buckets.take(_failures(services), address, force=True)
        raise NotFound(GONE)
    return found


def list_tools(adapter: Adapter, name: AdapterFormat) -> list[Tool]:
    """Those that the file is made for; of them those that read all of it, if its load proof tells."""
    proof = LoadProof.model_validate(adapter.proofs[name]) if name in adapter.proofs else None
    reading = {each.tool for each in proof.tools if each.loads and each.opens_base} if proof else set(MADE_FOR[name])
    return [tool for tool in MADE_FOR[name] if tool in reading]


def _title_file(adapter: Adapter, name: AdapterFormat) -> str:
    *others, last = [TOOL_NAMES[tool] for tool in list_tools(adapter, name)] or [f"tools that read {name}'s format"]
    return f"For {', '.join(others)} and {last}" if others else f"For {last}"


def _list_files(adapter: Adapter, url: str) -> list[OfferedFile]:
    suffixes: dict[AdapterFormat, str] = {"kohya": ".safetensors", "diffusers": ".diffusers.safetensors"}
    return [
        OfferedFile(
            title=_title_file(adapter, name),
            tools=list_tools(adapter, name),
            url=f"{url}?format={name}",
            filename=make_filename(adapter.name, suffixes[name]),
            size=adapter.files[name]["size"],
            sha256=adapter.files[name]["sha256"],
        )
        for name in ADAPTER_FORMATS
        if name in adapter.files
    ]


def _render(template: str, status_code: int = 200, **context: object) -> HTMLResponse:
    return HTMLResponse(_templates.get_template(template).render(context), status_code, headers=PAGE)
