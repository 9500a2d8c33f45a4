"""Dependencies that endpoints request by annotation."""

from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request, Security
from fastapi.security import HTTPBearer

from app.auth.service import Caller
from app.database import Database
from app.services import Services
from core.domain.ids import Prefix
from core.queue import Doorbell
from core.storage import Storage

PLAIN = r"^[^\x00-\x1f\x7f]*$"
"""No control characters: PostgreSQL refuses NUL, and no id has one."""

MAX_WAIT_SECONDS = 60

DEFAULT_PAGE = 20
MAX_PAGE = 100

# The gate has checked the key before reading the request; this one is for the OpenAPI document.
bearer = HTTPBearer(scheme_name="api_key", bearerFormat="atl_…", auto_error=False, description="An API key, `atl_…`.")


# Coroutines, for the framework calls plain functions in a thread each.
async def get_services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def get_caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


async def get_database(services: Annotated[Services, Depends(get_services)]) -> Database:
    return services.database


async def get_storage(services: Annotated[Services, Depends(get_services)]) -> Storage:
    return services.storage


async def get_doorbell(services: Annotated[Services, Depends(get_services)]) -> Doorbell:
    return services.doorbell


ServicesDep = Annotated[Services, Depends(get_services)]
DatabaseDep = Annotated[Database, Depends(get_database)]
StorageDep = Annotated[Storage, Depends(get_storage)]
DoorbellDep = Annotated[Doorbell, Depends(get_doorbell)]
CallerDep = Annotated[Caller, Depends(get_caller)]

needs_key = Security(bearer)

Id = Annotated[str, Path(max_length=100, pattern=PLAIN)]
After = Annotated[str | None, Query(max_length=100, pattern=PLAIN, description="Continue after this id.")]
LastEventId = Annotated[str | None, Header(max_length=100, pattern=PLAIN)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
TenantOf = Annotated[
    str | None, Query(max_length=100, pattern=PLAIN, description="For the operator; by default your own.")
]


def cursor_pattern(prefix: Prefix) -> str:
    """Of the ids of ``new_id``, and of those that are given by hand, such as the default tenant's."""
    return rf"^{prefix}_[0-9a-z]{{1,64}}$"


def continue_after(prefix: Prefix) -> Any:
    """The query parameter ``after`` of a list: ``Annotated[str | None, continue_after("job")]``."""
    return Query(pattern=cursor_pattern(prefix), description="Continue after this id.")


def wait_for(what: str) -> Any:
    """The query parameter ``wait`` of a request that may be answered later: ``Annotated[float, wait_for("…")]``."""
    return Query(ge=0, le=MAX_WAIT_SECONDS, description=f"Seconds to wait for {what}.", allow_inf_nan=False)
