"""GET /usage, and a tenant's quota."""

from fastapi import APIRouter

from app.deps import CallerDep, Id, ServicesDep, TenantOf, needs_key
from app.openapi import problems
from app.usage import service
from app.usage.schemas import QuotaIn, UsageOut

router = APIRouter(tags=["usage"], dependencies=[needs_key])


@router.get("/usage", responses=problems("not-found", "forbidden"))
async def get_usage(
    caller: CallerDep,
    services: ServicesDep,
    tenant: TenantOf = None,
) -> UsageOut:
    """Your usage and limits."""
    return await services.database.run(service.read_usage, caller, tenant, services.settings.default_limits)


@router.put(
    "/tenants/{tenant_id}/quota",
    responses=problems("not-found", "forbidden"),
)
async def put_quota(tenant_id: Id, body: QuotaIn, services: ServicesDep) -> UsageOut:
    """Sets all of a tenant's limits. Existing usage above them is kept."""
    return await services.database.run(service.change_limits, tenant_id, body, services.settings.default_limits)


@router.delete("/tenants/{tenant_id}/quota", responses=problems("not-found", "forbidden"))
async def delete_quota(tenant_id: Id, services: ServicesDep) -> UsageOut:
    """Restores the service's default limits for the tenant."""
    return await services.database.run(service.change_limits, tenant_id, None, services.settings.default_limits)
