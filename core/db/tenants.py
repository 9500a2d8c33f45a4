"""Tenants. A transaction that is not the operator's sees only its own."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db import audit
from core.db.paging import read_page
from core.db.tables import Tenant
from core.domain.audit import Action
from core.domain.errors import NotFound
from core.domain.ids import new_id


def insert_tenant(session: Session, name: str) -> Tenant:
    tenant = Tenant(id=new_id("ten"), name=name)
    session.add(tenant)
    session.flush()
    session.refresh(tenant)
    audit.record(session, Action.TENANT_CREATED, tenant.id)
    return tenant


def get_tenant(session: Session, tenant_id: str) -> Tenant:
    """Raises NotFound."""
    tenant = session.execute(select(Tenant).where(Tenant.id == tenant_id)).scalar_one_or_none()
    if tenant is None:
        raise NotFound(f"There is no tenant {tenant_id}.")
    return tenant


def list_tenants(session: Session, *, after: str | None = None, limit: int = 20) -> tuple[list[Tenant], bool]:
    """The default tenant, then the others, newest first, by id; and whether there are more."""
    query = select(Tenant)
    return read_page(session, query, Tenant.id, after, limit)
