"""Checks of adapters, as the API receives and shows them."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.adapters.schemas import AdapterId, Line
from app.errors import ErrorOut
from app.jobs.schemas import example
from core.db.tables import AdapterCheck
from core.domain.adapter_check import MAX_CHECKED, CheckResult
from core.domain.states import CheckStatus

_IDS: list[Any] = ["ad_01j9z3k8m4x7v2q5w6e8r9t0yc", "ad_01j9z3k8m4x7v2q5w6e8r9t0yd"]
_ID = "chk_01j9z3k8m4x7v2q5w6e8r9t0ye"
_LAYER = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
_SENTENCE = (
    "blip and ink are nearly independent: their updates have a cosine of 0.02, so each acts in a stack much as it does "
    "alone."
)
EXAMPLE: dict[str, Any] = {
    "id": _ID,
    "object": "adapter_check",
    "status": "done",
    "model": "tiny",
    "adapters": _IDS,
    "result": {
        "fits": True,
        "summary": f"All 2 fit tiny. {_SENTENCE}",
        "adapters": [
            {
                "id": known,
                "fits": True,
                "same_base": True,
                "reason": None,
                "misfits": [],
                "num_layers": 1,
                "norm": norm,
            }
            for known, norm in zip(_IDS, (1.84, 0.92), strict=True)
        ],
        "differences": [{"layer": _LAYER, "ranks": [16, 8]}],
        "pairs": [
            {
                "adapters": _IDS,
                "cosine": 0.0213,
                "relation": "independent",
                "sentence": _SENTENCE,
                "layers": [{"layer": _LAYER, "cosine": 0.0213, "contribution": 0.0213}],
            }
        ],
    },
    "error": None,
    "waiting_reason": None,
    "created_at": "2026-01-31T12:01:14Z",
    "urls": {"self": f"/adapters/checks/{_ID}"},
}


class AdapterCheckRequest(BaseModel):
    """Adapters to be held against a base and against one another."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"adapters": _IDS, "model": "tiny"}]})

    adapters: tuple[AdapterId, ...] = Field(min_length=1, max_length=MAX_CHECKED, description="Their ids, each once.")
    model: Line | None = Field(None, description="The base model. Default: that of the first adapter.")


class AdapterCheckUrls(BaseModel):
    """Where the check is."""

    self: str = Field(description="The check, for a day.")


class AdapterCheckOut(BaseModel):
    """`checking` until a worker has read the files, then `done` with the ``result``, or `failed` with the ``error``."""

    model_config = example(EXAMPLE)

    id: str
    object: Literal["adapter_check"] = "adapter_check"
    status: CheckStatus
    model: str
    adapters: list[str] = Field(description="The ids of the adapters.")
    result: CheckResult | None = Field(description="Null until it is done.")
    error: ErrorOut | None
    waiting_reason: str | None = Field(description="Why it is deferred, through no fault of the adapters.")
    created_at: datetime
    urls: AdapterCheckUrls

    @classmethod
    def of(cls, row: AdapterCheck) -> Self:
        names = ("id", "status", "adapters", "result", "error", "waiting_reason", "created_at")
        shown = {name: getattr(row, name) for name in names}
        return cls.model_validate(
            {**shown, "model": row.model_id, "urls": {"self": f"/adapters/checks/{row.id}"}},
        )
