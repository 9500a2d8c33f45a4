"""The application. ``uvicorn app.main:app`` serves it; it reads settings at startup, not at import."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, version

from fastapi import Depends, FastAPI
from starlette.middleware import Middleware

from app.activity.endpoints import router as activity_router
from app.adapters.checks import router as checks_router
from app.adapters.endpoints import router as adapters_router
from app.adapters.publishing import router as publishing_router
from app.adapters.sent_covers import router as covers_router
from app.audit.endpoints import router as audit_router
from app.captioners.endpoints import router as captioners_router
from app.captionings.endpoints import router as captionings_router
from app.dashboard.adapters import router as library_router
from app.dashboard.comparing import router as comparison_router
from app.dashboard.datasets import router as datasets_page_router
from app.dashboard.endpoints import router as dashboard_router
from app.dashboard.jobs import router as jobs_page_router
from app.dashboard.playground import router as playground_router
from app.dashboard.service_pages import router as service_pages_router
from app.dashboard.studio import router as studio_router
from app.datasets.endpoints import router as datasets_router
from app.generations.endpoints import router as generations_router
from app.jobs.downloads import router as downloads_router
from app.jobs.endpoints import router as jobs_router
from app.jobs.exports import router as exports_router
from app.jobs.steps import router as steps_router
from app.keys.endpoints import router as keys_router
from app.middleware.bodies import BodyGuard
from app.middleware.cross_origin import CrossOrigins
from app.middleware.gate import Gate
from app.middleware.head import HeadRequests
from app.middleware.headers import SecurityHeaders
from app.middleware.rates import RateLimits
from app.models.endpoints import router as models_router
from app.openapi import DESCRIPTION, install_openapi, name_operation
from app.operations.docs import router as docs_router
from app.operations.endpoints import router as operations_router
from app.problems import ProblemMiddleware, install_handlers
from app.services import open_services
from app.sharing.links import router as links_router
from app.sharing.public import router as share_router
from app.startup import prepare, prepare_later
from app.tenants.endpoints import router as tenants_router
from app.usage.endpoints import router as usage_router
from app.validation import refuse_unknown_query
from app.webhooks.endpoints import router as webhooks_router
from app.webhooks.messages import describe_webhooks
from core.logs import configure_logging
from core.settings import Settings, load_settings

ROUTERS = (
    datasets_router,
    models_router,
    jobs_router,
    downloads_router,
    steps_router,
    exports_router,
    webhooks_router,
    adapters_router,
    publishing_router,
    covers_router,
    links_router,
    generations_router,
    activity_router,
    captioners_router,
    captionings_router,
    checks_router,
    usage_router,
    keys_router,
    tenants_router,
    audit_router,
    operations_router,
    docs_router,
    studio_router,
    playground_router,
    library_router,
    share_router,
    service_pages_router,
    comparison_router,
    datasets_page_router,
    jobs_page_router,
    dashboard_router,  # last: it answers for all other paths under /ui
)

LAYERS = (HeadRequests, SecurityHeaders, CrossOrigins, RateLimits, ProblemMiddleware, Gate, BodyGuard)
"""From the outermost to the one next to the routes."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Without ``settings`` they come from the environment at startup, which fails and names what is missing."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if settings is None:
            configure_logging("api")
        async with open_services(settings or load_settings()) as services:
            app.state.services = services
            later = None if await prepare(services) else asyncio.create_task(prepare_later(services))
            yield
            if later is not None:
                later.cancel()
                with suppress(asyncio.CancelledError):
                    await later

    app = FastAPI(
        title="Atelier",
        version=find_version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        docs_url=None,
        redirect_slashes=False,  # the address would come from the Host header, which any client can write
        generate_unique_id_function=name_operation,
        middleware=[Middleware(layer) for layer in LAYERS],
    )
    install_handlers(app, ROUTERS)
    install_openapi(app)
    describe_webhooks(app.webhooks)
    for router in ROUTERS:
        app.include_router(router, dependencies=[Depends(refuse_unknown_query)])
    return app


def find_version() -> str:
    try:
        return version("atelier")
    except PackageNotFoundError:
        return "0"


app = create_app()
