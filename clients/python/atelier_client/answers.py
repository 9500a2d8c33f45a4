"""What all answers of the service have in common."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Frozen. It keeps unknown fields, so an older client can read a newer service."""

    model_config = ConfigDict(frozen=True, extra="allow")


Item = TypeVar("Item", bound=Answer)


class Page(Answer, Generic[Item]):
    data: tuple[Item, ...] = ()
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None
