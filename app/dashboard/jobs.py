"""The list of jobs, as the service renders it: it can be read without scripts, which fetch its rows again."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy.orm import Session

from app.auth.scopes import allows
from app.dashboard.pages import PageRoute, render
from app.dashboard.views import JobView
from app.dashboard.visits import VisitDep
from app.deps import PLAIN, After, ServicesDep
from app.jobs.service import list_page
from core.db.events import list_reasons
from core.db.models import list_models
from core.domain.states import JobStatus

PAGE_SIZE = 25

router = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)


@dataclass(frozen=True)
class Filters:
    """Empty texts, as forms send them, filter nothing."""

    status: JobStatus | None
    model: str
    text: str

    def as_query(self, **others: str) -> str:
        """For an address: ``?status=…``, or empty."""
        chosen = {name: value for name, value in {**asdict(self), **others}.items() if value}
        return f"?{urlencode(chosen)}" if chosen else ""


def read_filters(
    status: Annotated[str, Query(max_length=20)] = "",
    model: Annotated[str, Query(max_length=100, pattern=PLAIN)] = "",
    text: Annotated[str, Query(max_length=200, pattern=PLAIN)] = "",
) -> Filters:
    return Filters(JobStatus(status) if status in set(JobStatus) else None, model, text.strip())


FiltersDep = Annotated[Filters, Depends(read_filters)]


@router.get("/jobs")
async def show_jobs(
    request: Request, services: ServicesDep, browser_session: VisitDep, filters: FiltersDep, after: After = None
) -> Response:
    shown = await services.database.run(read_list, browser_session.caller.tenant_id, filters, after)
    models = await services.database.run(list_models)
    return render(
        request,
        "jobs.html",
        visit=browser_session,
        section="jobs",
        may_start=allows(browser_session.caller.scopes, "jobs"),
        models=[model.id for model in models],
        states=list(JobStatus),
        **shown,
    )


@router.get("/jobs/rows")
async def show_job_rows(
    request: Request, services: ServicesDep, browser_session: VisitDep, filters: FiltersDep, after: After = None
) -> Response:
    """The table's body alone; the page fetches it when something has changed."""
    shown = await services.database.run(read_list, browser_session.caller.tenant_id, filters, after)
    return render(request, "job_rows.html", visit=browser_session, **shown)


def read_list(session: Session, tenant_id: str, filters: Filters, after: str | None) -> dict[str, Any]:
    """What the templates need."""
    rows, has_more, places = list_page(
        session,
        tenant_id,
        status=filters.status,
        model=filters.model or None,
        words=filters.text or None,
        after=after,
        limit=PAGE_SIZE,
    )
    reasons = list_reasons(session, [job.id for job in rows if job.status == JobStatus.QUEUED])
    views = [JobView.of(job, places.get(job.id), reasons.get(job.id)) for job in rows]
    return {"jobs": views, "has_more": has_more, "after": after, "filters": filters}
