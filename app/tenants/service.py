"""The tenant that a call acts for: the caller's own, or any that the operator names."""

from sqlalchemy.orm import Session

from app.auth.scopes import require_operator
from app.auth.service import Caller
from core.db import tenants
from core.db.row_security import act_for
from core.domain.errors import NotFound


def choose_tenant(session: Session, caller: Caller, wanted: str | None) -> str:
    """The caller's own; any for the operator, and the transaction then acts for it. Raises Forbidden, NotFound."""
    if wanted is None or wanted == caller.tenant_id:
        return caller.tenant_id
    require_operator(caller)
    try:
        turn_to(session, wanted)
    except NotFound as error:
        raise NotFound(error.detail, {"/tenant": [error.detail]}) from None
    return wanted


def turn_to(session: Session, tenant_id: str) -> None:
    """The transaction acts for the tenant from here on. Raises NotFound."""
    tenants.get_tenant(session, tenant_id)
    act_for(session, tenant_id)
