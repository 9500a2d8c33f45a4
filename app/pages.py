"""The envelope of every list."""

from collections.abc import Callable, Sequence
from typing import Generic, Literal, Self, TypeVar

from pydantic import BaseModel

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """Continue with ``after=<last_id>`` while ``has_more``."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None

    @classmethod
    def of(cls, items: Sequence[Item], id_of: Callable[[Item], str], *, has_more: bool = False) -> Self:
        ends = (id_of(items[0]), id_of(items[-1])) if items else (None, None)
        return cls(data=list(items), has_more=has_more, first_id=ends[0], last_id=ends[1])
