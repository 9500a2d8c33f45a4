"""Models, as the API shows and receives them."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.errors import ErrorOut
from app.jobs import examples
from app.models.needs import MemoryNeed, predict_needs
from app.source_registration import ONE_SOURCE, SourceRegistration
from core.db.tables import Model
from core.domain.model import HUB_EXAMPLE, Calibration, Defaults, Family, ModelInfo, PredictionType
from core.domain.numbers import StrictInt, StrictNumbers
from core.domain.registration import ModelSource
from core.domain.states import ModelStatus


class ModelOut(BaseModel):
    """A base model. ``resolution`` is its native resolution in pixels.

    While it is `checking`, or after it was `rejected` (``error`` says why), unknown fields are null.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [examples.MODEL]})

    id: str
    object: Literal["model"] = "model"
    status: ModelStatus
    family: Family | None = None
    prediction_type: PredictionType | None = Field(None, description="What the denoiser predicts.")
    resolution: int | None = None
    resolution_step: int | None = Field(None, description="Training resolutions must be multiples of it.")
    num_parameters: int | None = Field(None, description="The denoiser's.")
    sha256: str | None = None
    file_sha256: str | None = Field(None, description="Of the single file that it was converted from.")
    description: str = ""
    example_prompts: tuple[str, ...] = ()
    defaults: Defaults | None = Field(None, description="The starting values of the preset `auto`.")
    calibration: Calibration | None = Field(
        None,
        description="Timed steps, for estimates until a job has run; null until they are measured.",
    )
    memory: tuple[MemoryNeed, ...] | None = Field(
        None, description="What a training with the defaults needs, by kind of device; null if it was not traced."
    )
    error: ErrorOut | None = None
    created_at: datetime

    @classmethod
    def of(cls, row: Model) -> Self:
        card = ModelInfo.model_validate(row.info) if row.info else None
        shown = {name: value for name, value in card.model_dump().items() if name in cls.model_fields} if card else {}
        own: dict[str, Any] = {"id": row.id, "status": row.status, "error": row.error, "created_at": row.created_at}
        own["memory"] = predict_needs(card) if card else None
        return cls.model_validate({**shown, **own})


class ModelRegistration(SourceRegistration, StrictNumbers):
    """A base model of the operator: a ``path`` below the models directory, or a ``hub_id``; exactly one of them.

    The path is a folder in diffusers' layout, directly in the models directory and without a leading dot, or a
    single-file .safetensors checkpoint at any depth. A folder with an ``atelier.json`` is registered at once, as
    that says; a worker examines everything else.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"path": "my-base"},
                {"path": "downloads/some-model.safetensors", "id": "some-model"},
                {"hub_id": HUB_EXAMPLE[0], "id": HUB_EXAMPLE[1]},
            ],
            "oneOf": ONE_SOURCE,
        },
    )

    prediction_type: PredictionType | None = Field(
        None, description="For a single file that does not state it, such as those of SD 2.x."
    )
    resolution: Annotated[
        StrictInt | None, Field(ge=64, le=2048, multiple_of=64, description="A single file's, in pixels, if unusual.")
    ] = None

    def to_source(self) -> ModelSource:
        return ModelSource.model_validate(self.model_dump(exclude={"id"}))
