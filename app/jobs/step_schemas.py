"""A job's steps, promotions and requested samples, as the API receives and shows them."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from app.errors import ErrorOut
from app.jobs import examples
from app.jobs.schemas import File, SampleImage, example, refuse_nul
from core.db.step_adapters import KeptStep
from core.db.tables import Promotion, SampleRequest
from core.domain.artifacts import ADAPTER_FORMATS, AdapterFormat
from core.domain.numbers import StrictInt
from core.domain.phrases import Prompt
from core.domain.spec import MAX_STEPS
from core.domain.spec_part import SpecPart
from core.domain.states import CheckStatus

MAX_PROMPTS = 8
_URL = f"/jobs/{examples.JOB_ID}"
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_REQUEST_ID = "smp_01j9z3k8m4x7v2q5w6e8r9t0yd"
_REQUEST_URL = f"{_URL}/samples/requests/{_REQUEST_ID}"

STEP_EXAMPLE: dict[str, Any] = {
    "step": 200,
    "loss": 0.1421,
    "validation_loss": 0.1533,
    "is_promoted": False,
    "files": {
        name: {"url": f"{_URL}/adapter?format={name}&step=200", "sha256": _SHA256, "size": 1_313_096}
        for name in ADAPTER_FORMATS
    },
    "samples_url": f"{_URL}/samples",
    "grid_url": f"{_URL}/samples/200/grid.png",
    "created_at": examples.TIME,
}
PROMOTION_EXAMPLE: dict[str, Any] = {
    "id": "prm_01j9z3k8m4x7v2q5w6e8r9t0yd",
    "object": "promotion",
    "status": "done",
    "job": examples.JOB_ID,
    "step": 200,
    "error": None,
    "waiting_reason": None,
    "created_at": examples.TIME,
}
REQUEST_EXAMPLE: dict[str, Any] = {
    "id": _REQUEST_ID,
    "object": "sample_request",
    "status": "drawn",
    "job": examples.JOB_ID,
    "prompts": ["a large blip on blue"],
    "seed": 0,
    "step": 57,
    "images": [
        {
            "url": f"{_REQUEST_URL}/0.png",
            "sha256": _SHA256,
            "size": 8_311,
            "prompt": "a large blip on blue",
            "seed": 0,
        }
    ],
    "error": None,
    "created_at": examples.TIME,
    "drawn_at": examples.TIME,
}


class StepOut(BaseModel):
    """A step whose adapter is kept."""

    model_config = example(STEP_EXAMPLE)

    step: int = Field(description="The training step that the adapter's weights are from.")
    loss: float | None = Field(description="The training loss at the step, smoothed.")
    validation_loss: float | None
    is_promoted: bool = Field(description="Whether it is the job's own adapter now.")
    files: dict[AdapterFormat, File] = Field(description="The adapter in each format.")
    samples_url: str | None = Field(description="The list of the job's samples; null if the step has none.")
    grid_url: str | None = Field(description="The step's samples on one grid; null if it has none.")
    created_at: datetime

    @classmethod
    def of(cls, kept: KeptStep) -> Self:
        row = kept.adapter
        url = f"/jobs/{row.job_id}"
        return cls(
            step=row.step,
            loss=kept.loss,
            validation_loss=kept.validation_loss,
            is_promoted=kept.is_promoted,
            files={
                name: File(
                    url=f"{url}/adapter?format={name}&step={row.step}",
                    sha256=row.files[name]["sha256"],
                    size=row.files[name]["size"],
                )
                for name in ADAPTER_FORMATS
                if name in row.files
            },
            samples_url=f"{url}/samples" if kept.has_samples else None,
            grid_url=f"{url}/samples/{row.step}/grid.png" if kept.has_samples else None,
            created_at=row.created_at,
        )


class PromotionRequest(SpecPart):
    """Which step's adapter becomes the job's."""

    model_config = example({"step": 200})

    step: StrictInt = Field(ge=1, le=MAX_STEPS, description="One of those that GET /jobs/{id}/steps lists.")


class PromotionOut(BaseModel):
    """A request that another step's adapter becomes the job's."""

    model_config = example(PROMOTION_EXAMPLE)

    id: str
    object: Literal["promotion"] = "promotion"
    status: CheckStatus = Field(description="checking: a worker proves that the files load; done; failed: see error.")
    job: str
    step: int = Field(description="The step that is promoted.")
    error: ErrorOut | None
    waiting_reason: str | None = Field(description="Why it is deferred, through no fault of its own.")
    created_at: datetime

    @classmethod
    def of(cls, row: Promotion) -> Self:
        return cls(
            id=row.id,
            status=CheckStatus(row.status),
            job=row.job_id,
            step=row.step,
            error=ErrorOut.model_validate(row.error) if row.error else None,
            waiting_reason=row.waiting_reason,
            created_at=row.created_at,
        )


class SamplesRequest(SpecPart):
    """What a running job is to draw with its adapter as it is now."""

    model_config = example({"prompts": ["a large {trigger} on blue"], "seed": 0})

    prompts: Annotated[
        tuple[Prompt, ...],
        Field(min_length=1, max_length=MAX_PROMPTS, description="{trigger} is replaced by the trigger."),
    ]
    seed: StrictInt = Field(0, ge=0, lt=2**32 - MAX_PROMPTS, description="The first image's seed; the others' follow.")

    @model_validator(mode="before")
    @classmethod
    def _no_nul(cls, data: Any) -> Any:
        return refuse_nul(data)


class SampleRequestOut(BaseModel):
    """Images that were requested of a running job."""

    model_config = example(REQUEST_EXAMPLE)

    id: str
    object: Literal["sample_request"] = "sample_request"
    status: Literal["waiting", "drawn", "failed", "missed"] = Field(
        description="waiting for the next step; drawn; failed: see error; missed: the job ended before."
    )
    job: str
    prompts: list[str] = Field(description="What is drawn.")
    seed: int = Field(description="The first image's seed; the others' follow.")
    step: int | None = Field(description="The step that the images show; null until they are drawn.")
    images: list[SampleImage] = Field(description="The images, in the order of the prompts.")
    error: ErrorOut | None
    created_at: datetime
    drawn_at: datetime | None = Field(description="Time of the answer (UTC); null until then.")

    @classmethod
    def of(cls, row: SampleRequest, *, has_ended: bool) -> Self:
        """``has_ended``: the job has."""
        url = f"/jobs/{row.job_id}/samples/requests/{row.id}"
        return cls(
            id=row.id,
            status="missed" if row.status == "waiting" and has_ended else row.status,
            job=row.job_id,
            prompts=row.prompts,
            seed=row.seed,
            step=row.step,
            images=[
                SampleImage.model_validate({**image, "url": f"{url}/{index}.png"})
                for index, image in enumerate(row.images)
            ],
            error=ErrorOut.model_validate(row.error) if row.error else None,
            created_at=row.created_at,
            drawn_at=row.drawn_at,
        )
