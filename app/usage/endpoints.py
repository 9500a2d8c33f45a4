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
    """What you use of what you may."""
    return await services.database.run(service.read_usage, caller, tenant, services.settings.default_limits)


@router.put(
    "/tenants/{tenant_id}/quota",
    responses=problems("not-found", "forbidden"),
)
async def put_quota(tenant_id: Id, body: QuotaIn, services: ServicesDep) -> UsageOut:
    """Sets all of a tenant's limits. What it has above them it keeps."""
    return await services.database.run(service.change_limits, tenant_id, body, services.settings.default_limits)


@router.delete("/tenants/{tenant_id}/quota", responses=problems("not-found", "forbidden"))
async def delete_quota(tenant_id: Id, services: ServicesDep) -> UsageOut:
    """The service's default limits hold for the tenant again."""
    return await services.database.run(service.change_limits, tenant_id, None, services.settings.default_limits)
