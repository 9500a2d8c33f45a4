"""A job's plan as the API shows it: TrainPlan without its long lists and storage keys."""

from typing import Any, Self

from pydantic import BaseModel, Field, create_model

from core.domain.plan import NOT_IN_OUTLINE, InitAdapter, TrainPlan

_KEYS = {"init_adapter": {"key"}}


class InitAdapterOut(BaseModel):
    """The adapter that the training starts from."""

    id: str
    sha256: str


class Outline(BaseModel):
    """The resolved spec: every open choice is a number. It never changes."""

    steps: int
    num_images: int = Field(description="Images in the dataset, including held-out ones.")

    @classmethod
    def of(cls, plan: TrainPlan) -> Self:
        """A list of images may have thousands of entries, and names storage keys."""
        hidden: Any = {**dict.fromkeys(NOT_IN_OUTLINE, True), **_KEYS}
        return cls.model_validate({**plan.model_dump(mode="json", exclude=hidden), "num_images": len(plan.images)})


def _show(annotation: Any) -> Any:
    return InitAdapterOut | None if annotation == InitAdapter | None else annotation


_FIELDS: dict[str, Any] = {
    name: (_show(field.annotation), field)
    for name, field in TrainPlan.model_fields.items()
    if name not in NOT_IN_OUTLINE
}
Plan = create_model("Plan", __base__=Outline, __doc__=Outline.__doc__, **_FIELDS)
