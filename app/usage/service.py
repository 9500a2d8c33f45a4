"""Reads a tenant's usage, and sets its limits. The operator may do so for any tenant."""

from sqlalchemy.orm import Session

from app.auth.service import Caller
from app.tenants.service import choose_tenant, turn_to
from app.usage.schemas import UsageOut
from core.db import audit, quotas
from core.db.usage import measure_usage
from core.domain.audit import Action
from core.domain.limits import Limits


def read_usage(session: Session, caller: Caller, tenant_id: str | None, defaults: Limits) -> UsageOut:
    """Raises Forbidden, NotFound."""
    return _show(session, choose_tenant(session, caller, tenant_id), defaults)


def change_limits(session: Session, tenant_id: str, limits: Limits | None, defaults: Limits) -> UsageOut:
    """None: restores the service's defaults. For the operator alone. Raises NotFound."""
    turn_to(session, tenant_id)
    if quotas.set_limits(session, tenant_id, limits):
        audit.record(session, Action.QUOTA_CHANGED, tenant_id)
    return _show(session, tenant_id, defaults)


def _show(session: Session, tenant_id: str, defaults: Limits) -> UsageOut:
    limits = quotas.get_limits(session, tenant_id, defaults)
    return UsageOut.of(tenant_id, measure_usage(session, tenant_id), limits)
