"""The pages about the service itself: base models, workers, webhooks, usage, keys and the audit log.

Each is a frame that its script fills over the public API.
"""

from typing import Any, get_args

from fastapi import APIRouter, Request, Response

from app.auth.scopes import require
from app.auth.sessions import BrowserSession
from app.dashboard.navigation import SERVICE_ENTRIES
from app.dashboard.pages import PageRoute, render
from app.dashboard.visits import VisitDep
from app.deps import Id
from core.domain.audit import Action
from core.domain.events import STATUS_EVENTS, EventType
from core.domain.keys import SCOPES
from core.domain.limits import Limits
from core.domain.model import PredictionType
from core.domain.webhooks import DeliveryStatus

NEEDS = {entry.section: entry.needs for entry in SERVICE_ENTRIES}

router = APIRouter(prefix="/ui", route_class=PageRoute, include_in_schema=False)


@router.get("/models")
async def show_models(request: Request, browser_session: VisitDep) -> Response:
    return show(request, browser_session, "models", predictions=get_args(PredictionType))


@router.get("/models/{model_id}")
async def show_model(request: Request, model_id: Id, browser_session: VisitDep) -> Response:
    return render(request, "model.html", visit=browser_session, section="models", script="model", model_id=model_id)


def show(request: Request, browser_session: BrowserSession, section: str, **context: Any) -> Response:
    """Raises Forbidden."""
    require(browser_session.caller, NEEDS[section])
    return render(request, f"{section}.html", visit=browser_session, section=section, **context)


@router.get("/workers")
async def show_workers(request: Request, browser_session: VisitDep) -> Response:
    return show(request, browser_session, "workers")


@router.get("/usage")
async def show_usage(request: Request, browser_session: VisitDep) -> Response:
    return show(request, browser_session, "usage", limits=list(Limits.model_fields))


@router.get("/keys")
async def show_keys(request: Request, browser_session: VisitDep) -> Response:
    return show(request, browser_session, "keys", scopes=SCOPES)


@router.get("/audit")
async def show_audit_log(request: Request, browser_session: VisitDep) -> Response:
    """The script applies the filter, which the address names."""
    return show(request, browser_session, "audit", actions=sorted(Action))


@router.get("/webhooks")
async def show_webhooks(request: Request, browser_session: VisitDep) -> Response:
    events = [(event, event in STATUS_EVENTS) for event in EventType]
    return show(request, browser_session, "webhooks", events=events, statuses=list(DeliveryStatus))
