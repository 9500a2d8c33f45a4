"""Datasets: the list, and one with its images. Their scripts change them by the API."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.auth.scopes import allows
from app.dashboard.pages import PageRoute, render
from app.dashboard.views import DatasetView
from app.dashboard.visits import VisitDep
from app.datasets.service import page_images, read_images
from app.deps import PLAIN, After, Id, ServicesDep
from core.db import datasets, models
from core.domain.states import DatasetStatus, ModelStatus

PAGE_SIZE = 25
NUM_IMAGES = 50
"""On a dataset's page without scripts."""

router = APIRouter(prefix="/ui/datasets", route_class=PageRoute, include_in_schema=False)


@router.get("")
async def show_datasets(
    request: Request, services: ServicesDep, browser_session: VisitDep, after: After = None
) -> Response:
    shown = await services.database.run(read_list, browser_session.caller.tenant_id, after)
    may_start = allows(browser_session.caller.scopes, "jobs")
    return render(request, "datasets.html", visit=browser_session, section="datasets", may_start=may_start, **shown)


@router.get("/rows")
async def show_dataset_rows(
    request: Request, services: ServicesDep, browser_session: VisitDep, after: After = None
) -> Response:
    """The list alone; the page fetches it when something has changed."""
    shown = await services.database.run(read_list, browser_session.caller.tenant_id, after)
    return render(request, "dataset_rows.html", visit=browser_session, **shown)


def read_list(session: Session, tenant_id: str, after: str | None) -> dict[str, Any]:
    """What the templates need."""
    rows, has_more = datasets.list_datasets(session, tenant_id, after=after, limit=PAGE_SIZE)
    covers = datasets.list_covers(session, [row.id for row in rows])
    shown = [DatasetView.of(row, cover=covers.get(row.id)) for row in rows]
    return {"datasets": shown, "has_more": has_more, "after": after}


@router.get("/{dataset_id}")
async def show_dataset(
    request: Request,
    dataset_id: Id,
    services: ServicesDep,
    browser_session: VisitDep,
    after: Annotated[str | None, Query(max_length=500, pattern=PLAIN)] = None,
) -> Response:
    """``after``: the image after which a page without scripts goes on; with them all images are there."""
    dataset, has_more = await services.database.run(read_dataset, browser_session.caller.tenant_id, dataset_id, after)
    bases = await services.database.run(models.list_models)
    return render(
        request,
        "dataset.html",
        visit=browser_session,
        section="datasets",
        may_change=allows(browser_session.caller.scopes, "jobs"),
        dataset=dataset,
        has_more=has_more,
        after=after,
        models=[base.id for base in bases if base.status == ModelStatus.READY],
    )


def read_dataset(session: Session, tenant_id: str, dataset_id: str, after: str | None) -> tuple[DatasetView, bool]:
    """With a page of its images, after the one of that name; and whether there are more. Raises NotFound."""
    row = datasets.get_dataset(session, tenant_id, dataset_id)
    images = read_images(session, tenant_id, dataset_id) if row.status == DatasetStatus.READY else ()
    shown, has_more = page_images(images, after, NUM_IMAGES)
    return DatasetView.of(row, shown), has_more
