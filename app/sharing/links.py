"""/adapters/{id}/links: made, listed and revoked by the adapter's owner."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.deps import DEFAULT_PAGE, CallerDep, DatabaseDep, Id, Limit, continue_after, needs_key
from app.idempotency import OnceDep
from app.jobs.schemas import example
from app.openapi import problems
from app.pages import Page
from core.db import links
from core.db.tables import AdapterLink
from core.domain.links import DEFAULT_SECONDS, MAX_SECONDS, MIN_SECONDS, hash_link_secret, make_link_secret
from core.domain.numbers import StrictInt, StrictNumbers

router = APIRouter(prefix="/adapters", tags=["adapters"], dependencies=[needs_key])

_ADAPTER = "ad_01j9z3k8m4x7v2q5w6e8r9t0yc"
_ID = "lnk_01j9z3k8m4x7v2q5w6e8r9t0yg"
EXAMPLE: dict[str, Any] = {
    "id": _ID,
    "object": "adapter_link",
    "adapter": _ADAPTER,
    "expired": False,
    "num_views": 12,
    "num_downloads": 3,
    "created_at": "2026-01-31T12:01:14Z",
    "expires_at": "2026-02-07T12:01:14Z",
    "last_used_at": "2026-02-01T08:15:00Z",
    "urls": {"self": f"/adapters/{_ADAPTER}/links/{_ID}"},
}


class LinkRequest(StrictNumbers):
    """How long a link works."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"expires_in": DEFAULT_SECONDS}]})

    expires_in: StrictInt = Field(
        DEFAULT_SECONDS, ge=MIN_SECONDS, le=MAX_SECONDS, description="Seconds until it stops working; at most a year."
    )


class LinkUrls(BaseModel):
    """Where the link is deleted."""

    self: str = Field(description="For DELETE, which revokes it.")


class LinkOut(BaseModel):
    """A link to an adapter, without its secret. Whoever has it sees the adapter's page and downloads its files, and may
    do nothing else."""

    model_config = example(EXAMPLE)

    id: str
    object: Literal["adapter_link"] = "adapter_link"
    adapter: str = Field(description="The adapter's id, `ad_…`.")
    expired: bool = Field(description="Whether its time is over.")
    num_views: int = Field(description="How often its page was opened.")
    num_downloads: int = Field(description="How often a download was begun through it.")
    created_at: datetime
    expires_at: datetime = Field(description="Time of expiry (UTC).")
    last_used_at: datetime | None = Field(description="Time of the last use (UTC); null if there was none.")
    urls: LinkUrls

    @classmethod
    def of(cls, row: AdapterLink, **more: Any) -> Self:
        names = ("id", "num_views", "num_downloads", "created_at", "expires_at", "last_used_at")
        shown = {name: getattr(row, name) for name in names}
        expired = row.expires_at <= datetime.now(UTC)
        url = f"/adapters/{row.adapter_id}/links/{row.id}"
        return cls.model_validate(
            {**shown, **more, "adapter": row.adapter_id, "expired": expired, "urls": {"self": url}}
        )


class NewLinkOut(LinkOut):
    """A new link, with the address to give away."""

    model_config = example(
        {**EXAMPLE, "url": "https://atelier.example.org/share/3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}
    )

    url: str | None = Field(
        description="The page. Only this answer contains it: keep it. Null in the answer to a repeat with the same "
        "`Idempotency-Key`, since the secret is not stored: delete the link then, and make another."
    )


@router.post(
    "/{adapter_id}/links", status_code=201, responses=problems("not-found", "wrong-state", "idempotency-mismatch")
)
async def create_adapter_link(
    adapter_id: Id, body: LinkRequest, request: Request, caller: CallerDep, once: OnceDep, response: Response
) -> NewLinkOut:
    """Makes a link that anybody can open without a key, until it expires or is deleted."""

    def get(session: Session, tenant_id: str, link_id: str) -> AdapterLink:
        return links.get_link(session, tenant_id, adapter_id, link_id)

    secret = make_link_secret()
    sha256 = hash_link_secret(secret)
    row = await once.create(body, get, links.insert_link, caller.tenant_id, adapter_id, sha256, body.expires_in)
    url = str(request.base_url.replace(path=f"/share/{secret}", query="")) if row.sha256 == sha256 else None
    shown = NewLinkOut.of(row, url=url)
    response.headers["Location"] = shown.urls.self
    return shown


@router.get("/{adapter_id}/links", responses=problems("not-found"))
async def list_adapter_links(
    adapter_id: Id,
    caller: CallerDep,
    database: DatabaseDep,
    after: Annotated[str | None, continue_after("lnk")] = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[LinkOut]:
    """Newest first, with those that have expired. Their secrets are not stored."""
    rows, has_more = await database.run(links.list_links, caller.tenant_id, adapter_id, after=after, limit=limit)
    return Page[LinkOut].of([LinkOut.of(row) for row in rows], lambda row: row.id, has_more=has_more)


@router.delete("/{adapter_id}/links/{link_id}", status_code=204, responses=problems("not-found"))
async def delete_adapter_link(adapter_id: Id, link_id: Id, caller: CallerDep, database: DatabaseDep) -> None:
    """Revokes a link, at once and for good."""
    await database.run(links.delete_link, caller.tenant_id, adapter_id, link_id)
