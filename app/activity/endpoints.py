"""GET /activity."""

import json

from fastapi import APIRouter, Request, Response

from app.activity import service
from app.activity.schemas import EXAMPLE, ActivityOut
from app.deps import CallerDep, ServicesDep, needs_key
from app.media import EVENT_STREAM, accepts, describe_events, send_events
from app.openapi import problems
from app.pages import Page

STREAM_EXAMPLE = f"event: ready\ndata: {{}}\n\nevent: job\ndata: {json.dumps(EXAMPLE)}\n\n"
RESPONSES = describe_events(STREAM_EXAMPLE)

router = APIRouter(tags=["activity"], dependencies=[needs_key])


@router.get("/activity", response_model=Page[ActivityOut], responses={**RESPONSES, **problems()})
async def list_activity(request: Request, caller: CallerDep, services: ServicesDep) -> Page[ActivityOut] | Response:
    """The states of your newest 200 jobs, datasets, adapters, generations and webhook deliveries each, and of all base
    models and training workers. With `Accept: text/event-stream`, live: first `ready`, then a message for each change,
    named `job`, `dataset`, `adapter`, `generation`, `delivery`, `model` or `worker`. Read what you show at every
    `ready`, and nothing is missed."""
    states = await services.database.run(service.read_states, caller)
    if accepts(request.headers, EVENT_STREAM):
        return send_events(service.stream_activity(services, caller))
    return Page[ActivityOut].of(list(states.values()), lambda state: state.id)
