"""The messages to receivers, for the document's ``webhooks`` (OpenAPI 3.1). Workers write and sign them
(core.db.webhooks); here they are only described."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header
from pydantic import BaseModel, Field

from app.errors import ErrorOut
from app.jobs import examples
from app.jobs.schemas import File, LastSamples, ResultMetrics, Urls, example
from core.domain.artifacts import AdapterFormat
from core.domain.events import STATUS_EVENTS, EventType
from core.domain.states import JobStatus

_ENDED: dict[str, Any] = {
    name: examples.JOB[name]
    for name in (
        *("id", "object", "status", "model", "dataset", "created_at", "started_at", "finished_at", "attempt"),
        *("result", "error", "metadata", "urls"),
    )
}
_RESULT: dict[str, Any] = {name: row for name, row in examples.JOB["result"].items() if name != "proofs"}
_VERDICTS: dict[str, dict[str, str]] = {
    name: {tool["tool"]: tool["verdict"] for tool in proof["tools"]}
    for name, proof in examples.JOB["result"]["proofs"].items()
}
EXAMPLE: dict[str, Any] = {
    "type": "job.succeeded",
    "timestamp": examples.JOB["finished_at"],
    "data": {
        "job_id": examples.JOB_ID,
        "event_id": examples.EVENT["id"],
        "seq": 14,
        "status": "succeeded",
        "attempt": 1,
        "event": {**_RESULT, "verdicts": _VERDICTS},
        "job": {**_ENDED, "result": _RESULT},
    },
}


class EndedResult(BaseModel):
    """The result of a training, as in `GET /jobs/{id}`, without the proofs."""

    adapter: dict[AdapterFormat, File] = Field(description="The file in each format.")
    adapter_id: str | None = Field(description="The adapter's id, as in GET /adapters/{id}.")
    samples: LastSamples | None = Field(description="The samples of the adapter's step; null if there are none.")
    metrics: ResultMetrics = Field(description="The training's measurements.")
    note: str | None = Field(description="Which step was chosen, and why training ended.")
    warnings: list[str] = Field(description="Warnings about the adapter, such as a low retention.")


class EndedJob(BaseModel):
    """A job that has ended, as in `GET /jobs/{id}`, without spec, plan, progress and estimate."""

    id: str
    object: Literal["job"]
    status: JobStatus
    model: str
    dataset: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempt: int
    result: EndedResult | None = Field(description="The result; null if the job did not succeed.")
    error: ErrorOut | None
    metadata: dict[str, str]
    urls: Urls


class WebhookData(BaseModel):
    """The event and its job."""

    job_id: str
    event_id: str = Field(description="The event's id, and the header webhook-id: the same for every attempt.")
    seq: int
    status: JobStatus = Field(description="The job's status at the time of the event.")
    attempt: int
    event: dict[str, Any] = Field(description="The event's data, as in GET /jobs/{id}/events.")
    job: EndedJob | None = Field(None, description="The job; only at its end.")


class WebhookMessage(BaseModel):
    """The message to a receiver, signed by Standard Webhooks 1.0."""

    model_config = example(EXAMPLE)

    type: EventType = Field(description="What happened.")
    timestamp: datetime = Field(description="The time of the event (UTC).")
    data: WebhookData = Field(description="The event and its job.")


MEANINGS: dict[EventType, str] = {
    EventType.QUEUED: "The job waits: it was accepted, resumed, or put back for another attempt.",
    EventType.RUNNING: "A worker has started an attempt.",
    EventType.PHASE: "A running job has entered another phase: `data.event.phase`.",
    EventType.PAUSING: "A pause was requested.",
    EventType.PAUSED: "The job is paused; its training state is kept.",
    EventType.CANCELING: "A cancellation was requested.",
    EventType.CANCELED: "The job was canceled.",
    EventType.CHECKPOINT: "A checkpoint was stored: `data.event.step`.",
    EventType.SAMPLES: "Samples were drawn: `data.event.step`.",
    EventType.REQUESTED_SAMPLES: "Requested samples were drawn: `data.event.request`, at `data.event.step`.",
    EventType.NOTICE: "A notice: `data.event.message`.",
    EventType.SUCCEEDED: "The adapter is ready.",
    EventType.PROMOTED: "The adapter of another step is the job's now: `data.event.step`.",
    EventType.FAILED: "The job has failed: `data.job.error` says why.",
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    204: {"description": "Any 2xx within 15 seconds: the message was received. Any other response is retried."},
    410: {"description": "Gone: the job sends no further messages."},
}

Id = Annotated[str, Header(alias="webhook-id", description="The event's id, the same for every attempt.")]
SentAt = Annotated[str, Header(alias="webhook-timestamp", description="The time of sending, in seconds since 1970.")]
Signature = Annotated[str, Header(alias="webhook-signature", description="`v1,` and the signature; may hold several.")]


def describe_webhooks(router: APIRouter) -> None:
    """Adds one entry for each type of event."""
    for kind in EventType:
        by_default = "sent by default" if kind in STATUS_EVENTS else "sent if the job's webhook asks for it"

        async def receive(body: WebhookMessage, webhook_id: Id, sent_at: SentAt, signature: Signature) -> None:
            raise NotImplementedError("receivers are elsewhere")

        router.add_api_route(
            kind.value,
            receive,
            methods=["POST"],
            status_code=204,
            responses=ANSWERS,
            tags=["webhooks"],
            operation_id=f"on_{kind.value.replace('.', '_')}",
            summary=kind.value,
            description=f"{MEANINGS[kind]} It is {by_default}.",
        )
