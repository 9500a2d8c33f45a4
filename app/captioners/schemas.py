"""Captioners, as the API shows and receives them."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.errors import ErrorOut
from app.jobs.schemas import example
from app.source_registration import ONE_SOURCE, SourceRegistration
from core.db.tables import Captioner
from core.domain.captioner import CaptionerInfo, CaptionerKind, CaptionerSource
from core.domain.registration import ID_PATTERN
from core.domain.states import ModelStatus

_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
EXAMPLE: dict[str, Any] = {
    "id": "blip",
    "object": "captioner",
    "status": "ready",
    "kind": "image-to-text",
    "architecture": "BlipForConditionalGeneration",
    "takes_prompt": True,
    "num_parameters": 247_414_076,
    "num_tags": None,
    "size": 990_375_424,
    "sha256": _SHA256,
    "description": "",
    "error": None,
    "waiting_reason": None,
    "created_at": "2026-01-31T12:00:00Z",
}


class CaptionerOut(BaseModel):
    """A captioning model. While it is `checking`, or after it was `rejected` (``error`` says why), what a worker finds
    out by loading it is null."""

    model_config = example(EXAMPLE)

    id: str
    object: Literal["captioner"] = "captioner"
    status: ModelStatus
    kind: CaptionerKind | None = Field(
        None, description="`image-to-text`: it writes sentences; `tagger`: it lists tags by their scores."
    )
    architecture: str | None = Field(None, description="The model's class; `onnx` for a tagger.")
    takes_prompt: bool | None = Field(None, description="Whether captionings by it may have a `prompt`.")
    num_parameters: int | None = Field(None, description="Null for a tagger.")
    num_tags: int | None = Field(None, description="The length of a tagger's list.")
    size: int | None = Field(None, description="Bytes of its files.")
    sha256: str | None = Field(None, description="Of the names and contents of its files.")
    description: str = ""
    error: ErrorOut | None = None
    waiting_reason: str | None = Field(None, description="Why its check is deferred, through no fault of its own.")
    created_at: datetime

    @classmethod
    def of(cls, row: Captioner) -> Self:
        info = CaptionerInfo.model_validate(row.info).model_dump() if row.info else {}
        own = {name: getattr(row, name) for name in ("id", "status", "error", "waiting_reason", "created_at")}
        return cls.model_validate({**info, **own, "description": row.source.get("description", "")})


class CaptionerRegistration(SourceRegistration):
    """A captioner of the operator: a ``path`` to a folder below the models directory, or a ``hub_id``; exactly one of
    them.

    The folder has a transformers model that turns images into text (config.json and .safetensors weights), or a tagger
    in ONNX (model.onnx and selected_tags.csv).
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"path": "captioners/wd-tagger"},
                {"hub_id": "Salesforce/blip-image-captioning-base", "id": "blip"},
            ],
            "oneOf": ONE_SOURCE,
        },
    )

    id: Annotated[
        str | None, Field(pattern=ID_PATTERN, description="By default from the name of the folder or repository.")
    ] = None

    def to_source(self) -> CaptionerSource:
        return CaptionerSource.model_validate(self.model_dump(exclude={"id"}))
