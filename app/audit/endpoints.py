"""GET /audit."""

from typing import Annotated

from fastapi import APIRouter
from sqlalchemy.orm import Session

from app.audit.schemas import AuditEntryOut
from app.deps import DEFAULT_PAGE, CallerDep, DatabaseDep, Limit, TenantOf, continue_after, needs_key
from app.openapi import problems
from app.pages import Page
from app.tenants.service import choose_tenant
from core.db import audit
from core.domain.audit import Action

router = APIRouter(tags=["audit"], dependencies=[needs_key])


@router.get("/audit", responses=problems("not-found"))
async def list_audit_entries(
    caller: CallerDep,
    database: DatabaseDep,
    action: Action | None = None,
    tenant: TenantOf = None,
    after: Annotated[str | None, continue_after("aud")] = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[AuditEntryOut]:
    """The audit log, newest first. Entries cannot be changed or removed."""

    def read(session: Session) -> tuple[list[AuditEntryOut], bool]:
        tenant_id = choose_tenant(session, caller, tenant)
        rows, has_more = audit.list_entries(session, tenant_id, action=action, after=after, limit=limit)
        return [AuditEntryOut.of(row) for row in rows], has_more

    entries, has_more = await database.run(read)
    return Page[AuditEntryOut].of(entries, lambda entry: entry.id, has_more=has_more)
