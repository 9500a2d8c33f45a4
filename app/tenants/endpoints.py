"""/tenants: for the operator."""

from typing import Annotated

from fastapi import APIRouter

from app.deps import DEFAULT_PAGE, DatabaseDep, Limit, continue_after, needs_key
from app.openapi import problems
from app.pages import Page
from app.tenants.schemas import TenantOut, TenantRequest
from core.db import tenants

router = APIRouter(prefix="/tenants", tags=["tenants"], dependencies=[needs_key])


@router.post("", status_code=201, responses=problems("forbidden"))
async def create_tenant(body: TenantRequest, database: DatabaseDep) -> TenantOut:
    """Creates a tenant. Tenants cannot see each other's data; they share base models and workers."""
    return TenantOut.of(await database.run(tenants.insert_tenant, body.name))


@router.get("", responses=problems("forbidden"))
async def list_tenants(
    database: DatabaseDep, after: Annotated[str | None, continue_after("ten")] = None, limit: Limit = DEFAULT_PAGE
) -> Page[TenantOut]:
    """The default tenant, then the others, newest first."""
    rows, has_more = await database.run(tenants.list_tenants, after=after, limit=limit)
    return Page[TenantOut].of([TenantOut.of(row) for row in rows], lambda tenant: tenant.id, has_more=has_more)
