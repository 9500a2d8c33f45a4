"""PUT /adapters/{id}/cover: a picture of one's own, which a worker reads and writes anew before anybody sees it."""

from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app.auth.service import Caller, check_still_valid
from app.cleaning import removing_if_it_fails
from app.deps import CallerDep, Id, ServicesDep, needs_key, wait_for
from app.errors import ErrorOut
from app.jobs.schemas import example
from app.openapi import problems
from app.progress import UNANNOUNCED_POLL_SECONDS
from app.services import Services
from app.storing import storing
from core.db import adapters, covers, quotas
from core.db.tables import SentCover
from core.domain.artifacts import Artifact, sent_cover_prefix
from core.domain.errors import InvalidRequest
from core.domain.ids import new_id
from core.domain.states import CoverStatus
from core.settings import Settings

router = APIRouter(prefix="/adapters", tags=["adapters"], dependencies=[needs_key])

_ADAPTER = "ad_01j9z3k8m4x7v2q5w6e8r9t0yc"
_ID = "cov_01j9z3k8m4x7v2q5w6e8r9t0yh"
EXAMPLE: dict[str, Any] = {
    "id": _ID,
    "object": "adapter_cover",
    "status": "ready",
    "adapter": _ADAPTER,
    "error": None,
    "waiting_reason": None,
    "created_at": "2026-01-31T12:01:14Z",
    "urls": {"self": f"/adapters/{_ADAPTER}/covers/{_ID}"},
}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class CoverUrls(BaseModel):
    """Where the picture's state is."""

    self: str = Field(description="The picture's state.")


class CoverOut(BaseModel):
    """A picture that was sent as a cover: `checking` until a worker has read it, then `ready`, and the adapter's
    ``cover``, or `rejected` with the ``error``."""

    model_config = example(EXAMPLE)

    id: str
    object: Literal["adapter_cover"] = "adapter_cover"
    status: CoverStatus
    adapter: str = Field(description="The adapter's id, `ad_…`.")
    error: ErrorOut | None
    waiting_reason: str | None = Field(description="Why it is deferred, through no fault of the picture.")
    created_at: datetime
    urls: CoverUrls

    @classmethod
    def of(cls, row: SentCover) -> Self:
        shown = {name: getattr(row, name) for name in ("id", "status", "error", "waiting_reason", "created_at")}
        url = f"/adapters/{row.adapter_id}/covers/{row.id}"
        return cls.model_validate({**shown, "adapter": row.adapter_id, "urls": {"self": url}})


@router.put(
    "/{adapter_id}/cover",
    status_code=202,
    openapi_extra=BODY,
    responses=problems("not-found", "wrong-state", "too-large"),
)
async def put_adapter_cover(
    adapter_id: Id, request: Request, caller: CallerDep, services: ServicesDep, response: Response
) -> CoverOut:
    """Sends a picture as the adapter's cover, in any format that datasets may have, up to 16 megapixels. Until a worker
    has read it, the adapter keeps the cover that it has."""
    row = await _receive(services, caller.tenant_id, adapter_id, request.stream())
    services.doorbell.ring("validate")
    shown = CoverOut.of(row)
    response.headers["Location"] = shown.urls.self
    return shown


@router.get("/{adapter_id}/covers/{cover_id}", responses=problems("not-found"))
async def get_adapter_cover(
    adapter_id: Id,
    cover_id: Id,
    caller: CallerDep,
    services: ServicesDep,
    wait: Annotated[float, wait_for("its end")] = 0,
) -> CoverOut:
    """What became of the last picture that was sent, as it is now or, with `wait`, as soon as it was read."""
    row = await services.progress.wait_until(
        cover_id,
        partial(services.database.run, _read, caller, adapter_id, cover_id),
        lambda row: row.status != CoverStatus.CHECKING,
        wait,
        UNANNOUNCED_POLL_SECONDS,
    )
    return CoverOut.of(row)


async def _receive(services: Services, tenant_id: str, adapter_id: str, body: AsyncIterator[bytes]) -> SentCover:
    """Raises NotFound, WrongState, InvalidRequest, TooLarge, QuotaExceeded. What fails leaves nothing behind."""
    settings = services.settings
    await services.database.run(adapters.get_adapter, tenant_id, adapter_id)
    await services.database.run(quotas.refuse_full_storage, tenant_id, settings.default_limits)
    cover_id = new_id("cov")
    prefix = sent_cover_prefix(adapter_id, cover_id)
    async with removing_if_it_fails(services.storage, prefix):
        async with storing(services.storage, f"{prefix}upload", services.upload_slots) as writer:
            async for chunk in body:
                await writer.write(chunk)
        stored = writer.stored
        if not stored.size:
            raise InvalidRequest("The body is empty: send a picture.")
    upload = Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)
    async with removing_if_it_fails(services.storage, prefix, inserts=True):
        return await services.database.run(_insert, settings, tenant_id, adapter_id, cover_id, upload)


def _insert(
    session: Session, settings: Settings, tenant_id: str, adapter_id: str, cover_id: str, upload: Artifact
) -> SentCover:
    limits = quotas.lock_limits(session, tenant_id, settings.default_limits)
    row = covers.insert_cover(session, tenant_id, adapter_id, cover_id, upload)
    quotas.check_storage(session, tenant_id, limits)
    return row


def _read(session: Session, caller: Caller, adapter_id: str, cover_id: str) -> SentCover:
    """Raises NotFound, Unauthenticated."""
    check_still_valid(session, caller)
    return covers.get_cover(session, caller.tenant_id, adapter_id, cover_id)
