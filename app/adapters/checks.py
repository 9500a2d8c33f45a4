"""/adapters/check and /adapters/checks: whether adapters fit a base and one another."""

from typing import Annotated

from fastapi import APIRouter, Response

from app.adapters import checking
from app.adapters.check_schemas import AdapterCheckOut, AdapterCheckRequest
from app.deps import CallerDep, Id, ServicesDep, needs_key, wait_for
from app.idempotency import OnceDep
from app.openapi import problems
from core.db import adapter_checks
from core.domain.states import CheckStatus

router = APIRouter(prefix="/adapters", tags=["adapters"], dependencies=[needs_key])

Wait = Annotated[float, wait_for("the answer")]


@router.post(
    "/check",
    response_model=AdapterCheckOut,
    responses={
        202: {"model": AdapterCheckOut, "description": "No worker has answered within `wait`: look again at its url."},
        **problems("not-found", "wrong-state", "idempotency-mismatch"),
    },
)
async def check_adapters(
    body: AdapterCheckRequest,
    caller: CallerDep,
    services: ServicesDep,
    once: OnceDep,
    response: Response,
    wait: Wait = 20,
) -> AdapterCheckOut:
    """Do these adapters fit this base, and together? A worker compares their layers and sizes with the base's, and
    measures how far each two of them overlap. The answer is kept for a day."""
    insert = checking.insert_check
    made = await once.create(body, adapter_checks.get_check, insert, services.settings, caller.tenant_id, body)
    services.doorbell.ring("validate")
    services.doorbell.ring("train")
    check = await checking.wait_for_check(services, caller, made.id, wait)
    response.headers["Location"] = f"/adapters/checks/{check.id}"
    response.status_code = 202 if check.status == CheckStatus.CHECKING else 200
    return AdapterCheckOut.of(check)


@router.get("/checks/{check_id}", responses=problems("not-found"))
async def get_adapter_check(check_id: Id, caller: CallerDep, services: ServicesDep, wait: Wait = 0) -> AdapterCheckOut:
    """One check as it is now or, with `wait`, as soon as it has ended."""
    return AdapterCheckOut.of(await checking.wait_for_check(services, caller, check_id, wait))
