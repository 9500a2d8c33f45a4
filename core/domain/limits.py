"""What a tenant may have and use. Null is no limit."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field

from core.domain.numbers import StrictInt, StrictNumbers
from core.domain.spec import MAX_RANK, MAX_RESOLUTION, MIN_RESOLUTION

MAX_COUNT = 2**53 - 1
"""The largest whole number that every JSON reader keeps."""

Count = Annotated[StrictInt, Field(ge=0, le=MAX_COUNT)]


class Limits(StrictNumbers):
    """Quotas, and caps on what one job may ask. Every field is to be given, so that none is lifted by forgetting it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    running_jobs: Count | None = Field(description="Jobs that workers hold at the same time; more wait.")
    queued_jobs: Count | None = Field(description="Jobs that wait, paused ones among them.")
    stored_bytes: Count | None = Field(description="Datasets, checkpoints, samples and adapters in storage.")
    steps_per_day: Count | None = Field(description="Training steps of the jobs accepted on one day (UTC).")
    images_per_dataset: Count | None = Field(description="Images in a dataset that a job trains on.")
    rank: Annotated[StrictInt, Field(ge=1, le=MAX_RANK)] | None = Field(description="Of an adapter.")
    resolution: Annotated[StrictInt, Field(ge=MIN_RESOLUTION, le=MAX_RESOLUTION)] | None = Field(
        description="Of a training."
    )

    @classmethod
    def unlimited(cls) -> Self:
        return cls.model_validate(dict.fromkeys(cls.model_fields))


UNLIMITED = Limits.unlimited()
