"""Activity, as the API shows it."""

from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from app.jobs.examples import JOB_ID
from app.jobs.schemas import Progress, example
from core.db.activity import Resource, State
from core.domain.states import Phase

EXAMPLE: dict[str, Any] = {
    "object": "activity",
    "resource": "job",
    "id": JOB_ID,
    "status": "running",
    "phase": "training",
    "progress": {
        "step": 12,
        "num_steps": 100,
        "percent": 12.0,
        "seconds_per_step": 0.7,
        "eta_seconds": 61.3,
        "loss": 0.0713,
        "units_done": None,
        "units_total": None,
    },
    "queue_position": None,
}


class ActivityOut(BaseModel):
    """The state of a job, dataset, adapter, generation, webhook delivery, base model or training worker. In the
    stream, `status` is null if it was deleted, and for a worker that has not been heard of for a minute."""

    model_config = example(EXAMPLE)

    object: Literal["activity"] = "activity"
    resource: Resource = Field(description="The type of the thing whose state this is.")
    id: str
    status: str | None = Field(
        description="The current status; null if it was deleted. A worker is `running` your job, or `ready`."
    )
    phase: Phase | None = Field(None, description="The phase of a running job.")
    progress: Progress | None = Field(
        None, description="A job's progress; of a generation, how many images are drawn, as `units_done`."
    )
    queue_position: int | None = Field(None, description="A queued job's place among your own: 1 is next.")

    @classmethod
    def of(cls, state: State, queue_position: int | None = None) -> Self:
        return cls(
            resource=state.resource,
            id=state.id,
            status=state.status,
            phase=Phase(state.phase) if state.phase else None,
            progress=Progress.model_validate(state.progress) if state.progress else None,
            queue_position=queue_position,
        )

    def as_deleted(self) -> Self:
        return self.model_copy(update={"status": None, "phase": None, "progress": None, "queue_position": None})
