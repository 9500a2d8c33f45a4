"""GET /healthz, /readyz, /workers, /metrics, and the way to the dashboard."""

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from app.deps import CallerDep, DatabaseDep, ServicesDep, needs_key
from app.openapi import problems
from app.operations import metrics, service
from app.operations.schemas import Health, Readiness, WorkerOut
from app.pages import Page
from core.db import workers

EXAMPLE = """# HELP atelier_jobs Jobs by status, until they are deleted.
# TYPE atelier_jobs gauge
atelier_jobs{status="queued",tenant="default"} 2.0
"""

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def get_health() -> Health:
    """The process is alive."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "A part does not respond."}})
async def get_readiness(services: ServicesDep, response: Response) -> Readiness:
    """Whether database, broker and storage respond."""
    readiness = await service.check_readiness(services)
    response.status_code = 200 if readiness.status == "ready" else 503
    return readiness


@router.get("/workers", dependencies=[needs_key], responses=problems())
async def list_workers(caller: CallerDep, database: DatabaseDep) -> Page[WorkerOut]:
    """The active training workers, with their device and the base model in memory."""
    rows = await database.run(workers.list_workers, caller.tenant_id)
    return Page[WorkerOut].of([WorkerOut.of(row) for row in rows], lambda worker: worker.id)


@router.get(
    "/metrics",
    dependencies=[needs_key],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": EXAMPLE}}}, **problems()},
)
async def get_service_metrics(caller: CallerDep, database: DatabaseDep) -> Response:
    """Jobs by status, the queue's age, storage and workers, in Prometheus' format. The operator's key sees every
    tenant, any other key its own."""
    figures = await database.run(metrics.measure, caller)
    return Response(metrics.render(figures), media_type=metrics.MEDIA_TYPE)


@router.get("/", include_in_schema=False)
async def open_dashboard() -> RedirectResponse:
    return RedirectResponse("/ui", status_code=307)
