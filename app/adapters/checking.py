"""Requests for a check of adapters, and waits for its end."""

from functools import partial

from sqlalchemy.orm import Session

from app.adapters.check_schemas import AdapterCheckRequest
from app.auth.service import Caller, check_still_valid
from app.progress import UNANNOUNCED_POLL_SECONDS
from app.services import Services
from core.db import adapter_checks, adapters, models, quotas
from core.db.tables import AdapterCheck
from core.domain.errors import InvalidRequest, NotFound, WrongState
from core.domain.states import AdapterStatus, CheckStatus
from core.settings import Settings


def insert_check(session: Session, settings: Settings, tenant_id: str, asked: AdapterCheckRequest) -> AdapterCheck:
    """Raises InvalidRequest, NotFound, WrongState, QuotaExceeded."""
    if len(set(asked.adapters)) < len(asked.adapters):
        raise InvalidRequest("An adapter is in the list twice.", {"/adapters": ["must name each adapter once"]})
    quotas.lock_limits(session, tenant_id, settings.default_limits)
    own_models = [
        _find_model_id(session, tenant_id, adapter_id, f"/adapters/{number}")
        for number, adapter_id in enumerate(asked.adapters)
    ]
    try:
        model = models.read_card(models.get_model(session, asked.model or own_models[0]))
    except (NotFound, WrongState) as error:
        raise type(error)(error.detail, {"/model": [error.detail]}) from None
    return adapter_checks.insert_check(session, tenant_id, asked.adapters, model)


def _find_model_id(session: Session, tenant_id: str, adapter_id: str, place: str) -> str:
    try:
        row = adapters.get_adapter(session, tenant_id, adapter_id)
    except NotFound as error:
        raise NotFound(error.detail, {place: [error.detail]}) from None
    if row.status != AdapterStatus.READY:
        detail = f"Adapter {adapter_id} is {row.status}: only ready adapters can be checked."
        raise WrongState(detail, {place: [detail]})
    return row.model_id


async def wait_for_check(services: Services, caller: Caller, check_id: str, seconds: float) -> AdapterCheck:
    """The check once it has ended, or when the time is up."""
    return await services.progress.wait_until(
        check_id,
        partial(services.database.run, read_check, caller, check_id),
        lambda check: check.status != CheckStatus.CHECKING,
        seconds,
        UNANNOUNCED_POLL_SECONDS,
    )


def read_check(session: Session, caller: Caller, check_id: str) -> AdapterCheck:
    """Raises NotFound, Unauthenticated."""
    check_still_valid(session, caller)
    return adapter_checks.get_check(session, caller.tenant_id, check_id)
