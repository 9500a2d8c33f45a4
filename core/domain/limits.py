"""A tenant's limits. Null means no limit."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field

from core.domain.numbers import StrictInt, StrictNumbers
from core.domain.spec import MAX_RANK, MAX_RESOLUTION, MIN_RESOLUTION

MAX_COUNT = 2**53 - 1
"""The largest whole number that every JSON reader keeps."""

Count = Annotated[StrictInt, Field(ge=0, le=MAX_COUNT)]


class Limits(StrictNumbers):
    """Quotas, and limits for one job. Every field is required, so that none is lifted by omission."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    running_jobs: Count | None = Field(description="Jobs that workers hold at the same time; further ones wait.")
    queued_jobs: Count | None = Field(description="Waiting jobs, including paused ones.")
    stored_bytes: Count | None = Field(description="Datasets, checkpoints, samples and adapters in storage.")
    steps_per_day: Count | None = Field(description="Training steps of the jobs accepted on one day (UTC).")
    images_per_dataset: Count | None = Field(description="Images in a dataset that a job trains on.")
    rank: Annotated[StrictInt, Field(ge=1, le=MAX_RANK)] | None = Field(description="The rank of an adapter.")
    resolution: Annotated[StrictInt, Field(ge=MIN_RESOLUTION, le=MAX_RESOLUTION)] | None = Field(
        description="The training resolution."
    )

    @classmethod
    def unlimited(cls) -> Self:
        return cls.model_validate(dict.fromkeys(cls.model_fields))


UNLIMITED = Limits.unlimited()
