"""Models as the API shows and takes them."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.deps import PLAIN
from core.db.tables import Model
from core.domain.model import Defaults, ModelInfo, ModelStatus

EXAMPLE: dict[str, JsonValue] = {
    "id": "tiny",
    "object": "model",
    "family": "sd1",
    "resolution": 64,
    "resolution_step": 8,
    "num_parameters": 5_012_000,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "status": "ready",
    "description": "A Stable Diffusion 1.x of 64 pixels, drawn from emoji.",
    "example_prompts": ["{trigger} on a blue background"],
    "defaults": {
        "adapter_type": "locon",
        "rank": 8,
        "targets": "all",
        "learning_rate": 0.001,
        "schedule": "cosine",
        "batch_size": 8,
        "steps_per_image": 25.0,
        "min_steps": 200,
        "max_steps": 1000,
        "min_snr_gamma": 5.0,
        "sample_num_steps": 20,
        "sample_guidance_scale": 4.0,
    },
    "created_at": "2026-01-31T12:00:00Z",
}


class ModelOut(BaseModel):
    """A base model. ``resolution`` is what it was made at, in pixels."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    object: Literal["model"] = "model"
    family: str
    resolution: int
    resolution_step: int = Field(description="Training resolutions are multiples of it.")
    num_parameters: int = Field(description="The denoiser's.")
    sha256: str
    status: ModelStatus
    description: str
    example_prompts: tuple[str, ...]
    defaults: Defaults = Field(description="What the preset `auto` starts from.")
    created_at: datetime

    @classmethod
    def of(cls, row: Model) -> Self:
        info = ModelInfo.model_validate(row.info)
        shown = info.model_dump(include=set(cls.model_fields))
        return cls.model_validate({**shown, "status": row.status, "created_at": row.created_at})


class ModelRegistration(BaseModel):
    """A folder below the operator's models directory, in diffusers' layout, with its ``atelier.json``."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"path": "my-base"}]})

    path: Annotated[
        str, Field(min_length=1, max_length=500, pattern=PLAIN, description="Relative to the models directory.")
    ]
