"""Captionings, as the API shows and receives them."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from app.errors import ErrorOut
from app.jobs.schemas import example, refuse_nul
from core.db.tables import Captioning
from core.domain.captioning import CaptioningPlan, CaptioningSpec, CaptioningStatus
from core.domain.phrases import Phrase

_ID = "cap_01j9z3h2b6n4c8d0f2g4h6j8kb"
_DATASET = "ds_01j9z3h2b6n4c8d0f2g4h6j8ka"
REQUEST_EXAMPLE = {"captioner": "blip", "prefix": "blip, ", "only_missing": True}
EXAMPLE: dict[str, Any] = {
    "id": _ID,
    "object": "captioning",
    "status": "succeeded",
    "dataset": _DATASET,
    "captioner": "blip",
    "prompt": None,
    "prefix": "blip, ",
    "suffix": "",
    "only_missing": True,
    "threshold": None,
    "name": None,
    "num_images": 12,
    "num_done": 12,
    "num_reused": 4,
    "revision": "ds_01j9z3h2b6n4c8d0f2g4h6j8kc",
    "error": None,
    "waiting_reason": None,
    "created_at": "2026-01-31T12:01:14Z",
    "ended_at": "2026-01-31T12:01:26Z",
    "urls": {"self": f"/captionings/{_ID}", "revision": "/datasets/ds_01j9z3h2b6n4c8d0f2g4h6j8kc"},
}


class CaptioningRequest(CaptioningSpec):
    """How to caption a dataset. `{"captioner"}` is enough."""

    model_config = example(REQUEST_EXAMPLE)

    name: Phrase | None = Field(None, description="The name of the new dataset; by default its parent's.")

    @model_validator(mode="before")
    @classmethod
    def _no_nul(cls, data: Any) -> Any:
        return refuse_nul(data)


class CaptioningUrls(BaseModel):
    """Related paths."""

    self: str = Field(description="The captioning.")
    revision: str | None = Field(description="The captioned dataset; null until it is there.")


class CaptioningOut(BaseModel):
    """Captions for a dataset's images by a captioner. They end in a revision of the dataset."""

    model_config = example(EXAMPLE)

    id: str
    object: Literal["captioning"] = "captioning"
    status: CaptioningStatus = Field(description="queued, running while a worker writes, and then how it ended.")
    dataset: str
    captioner: str = Field(description="The captioner's id.")
    prompt: str | None = Field(description="What the captioner was asked; null for its default.")
    prefix: str = Field(description="Put before each new caption.")
    suffix: str = Field(description="Put after each new caption.")
    only_missing: bool = Field(description="Whether images that have a caption stay as they are.")
    threshold: float | None = Field(description="The score from which a tag counts; null if it is not a tagger.")
    name: str | None = Field(description="The name that was asked for; null for the dataset's own.")
    num_images: int = Field(description="Images to caption.")
    num_done: int = Field(description="Images that are captioned so far.")
    num_reused: int = Field(
        description="Images that this captioner had captioned before, with the same settings: they are not captioned "
        "again."
    )
    revision: str | None = Field(
        description="The dataset with the captions, once it has succeeded; the captioned dataset itself if they change "
        "nothing. Null if it was deleted."
    )
    error: ErrorOut | None
    waiting_reason: str | None = Field(description="Why it is deferred, through no fault of its own.")
    created_at: datetime
    ended_at: datetime | None = Field(description="Time of its end (UTC); null until then.")
    urls: CaptioningUrls

    @classmethod
    def of(cls, row: Captioning) -> Self:
        plan, revision = CaptioningPlan.model_validate(row.plan), row.revision_id
        return cls(
            id=row.id,
            status="running" if row.status == Captioning.CHECKING and row.lease_until else row.status,
            dataset=row.dataset_id,
            captioner=row.captioner_id,
            **{name: getattr(plan, name) for name in ("prompt", "prefix", "suffix", "only_missing", "name")},
            threshold=plan.threshold if plan.info.kind == "tagger" else None,
            **{name: getattr(row, name) for name in ("num_images", "num_done", "num_reused", "error")},
            revision=revision,
            waiting_reason=row.waiting_reason,
            created_at=row.created_at,
            ended_at=row.ended_at,
            urls=CaptioningUrls(
                self=f"/captionings/{row.id}", revision=None if revision is None else f"/datasets/{revision}"
            ),
        )
