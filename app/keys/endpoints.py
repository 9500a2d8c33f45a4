"""/keys: create, list, rotate and revoke API keys."""

from typing import Annotated

from fastapi import APIRouter

from app.deps import DEFAULT_PAGE, CallerDep, DatabaseDep, Id, Limit, ServicesDep, TenantOf, continue_after, needs_key
from app.keys import service
from app.keys.schemas import KeyOut, KeyRequest, NewKey, RotationRequest
from app.openapi import problems
from app.pages import Page

router = APIRouter(prefix="/keys", tags=["keys"], dependencies=[needs_key])


@router.post("", status_code=201, responses=problems("not-found"))
async def create_key(body: KeyRequest, caller: CallerDep, database: DatabaseDep, tenant: TenantOf = None) -> NewKey:
    """Creates a key. Only this response shows its `secret`. The tenant may be given in the body or in the query."""
    made = await database.run(service.create, caller, body, tenant)
    return NewKey.of(made.row, secret=made.secret)


@router.get("", responses=problems("not-found"))
async def list_keys(
    caller: CallerDep,
    database: DatabaseDep,
    tenant: TenantOf = None,
    after: Annotated[str | None, continue_after("key")] = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[KeyOut]:
    """Newest first, including revoked ones."""
    rows, has_more = await database.run(service.list_page, caller, tenant, after=after, limit=limit)
    return Page[KeyOut].of([KeyOut.of(row) for row in rows], lambda key: key.id, has_more=has_more)


@router.post("/{key_id}/rotate", status_code=201, responses=problems("not-found", "wrong-state"))
async def rotate_key(
    key_id: Id,
    caller: CallerDep,
    services: ServicesDep,
    body: RotationRequest = RotationRequest(),
    tenant: TenantOf = None,
) -> NewKey:
    """Creates a key with the same scopes and the same expiry. The old one stays valid for the overlap."""
    settings, overlap = services.settings, body.overlap_seconds
    made = await services.database.run(service.rotate, settings, caller, tenant, key_id, overlap)
    return NewKey.of(made.row, secret=made.secret)


@router.delete("/{key_id}", status_code=204, responses=problems("not-found", "wrong-state"))
async def revoke_key(key_id: Id, caller: CallerDep, services: ServicesDep, tenant: TenantOf = None) -> None:
    """Revokes the key at once and for good, with the dashboard sessions that it opened."""
    await services.database.run(service.revoke, services.settings, caller, tenant, key_id)
