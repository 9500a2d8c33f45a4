"""Usage and limits, as the API shows them."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from core.db.usage import Usage
from core.domain.limits import Limits

_LIMITS: dict[str, JsonValue] = {
    "running_jobs": 2,
    "queued_jobs": 50,
    "stored_bytes": 10_000_000_000,
    "steps_per_day": 20_000,
    "images_per_dataset": None,
    "rank": 64,
    "resolution": 1024,
}


class QuotaIn(Limits):
    """Every field is required; null lifts a limit."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LIMITS]})


class Used(BaseModel):
    """``limit`` null: unlimited."""

    used: int
    limit: int | None


class UsageOut(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "object": "usage",
                    "tenant": "ten_01j9z0000000000000000000000",
                    "running_jobs": {"used": 1, "limit": 2},
                    "queued_jobs": {"used": 4, "limit": 50},
                    "stored_bytes": {"used": 73_400_320, "limit": 10_000_000_000},
                    "steps_today": {"used": 1_200, "limit": 20_000},
                    "caps": {"images_per_dataset": None, "rank": 64, "resolution": 1024},
                }
            ]
        }
    )

    object: Literal["usage"] = "usage"
    tenant: str
    running_jobs: Used = Field(description="Held by workers; jobs beyond the limit wait.")
    queued_jobs: Used = Field(description="Waiting jobs, including paused ones.")
    stored_bytes: Used
    steps_today: Used = Field(description="Steps of the jobs accepted since midnight UTC.")
    caps: dict[Literal["images_per_dataset", "rank", "resolution"], int | None] = Field(
        description="The most steps of one job; null: only the general limit."
    )

    @classmethod
    def of(cls, tenant_id: str, usage: Usage, limits: Limits) -> Self:
        return cls(
            tenant=tenant_id,
            running_jobs=Used(used=usage.running_jobs, limit=limits.running_jobs),
            queued_jobs=Used(used=usage.queued_jobs, limit=limits.queued_jobs),
            stored_bytes=Used(used=usage.stored_bytes, limit=limits.stored_bytes),
            steps_today=Used(used=usage.steps_today, limit=limits.steps_per_day),
            caps={
                "images_per_dataset": limits.images_per_dataset,
                "rank": limits.rank,
                "resolution": limits.resolution,
            },
        )
