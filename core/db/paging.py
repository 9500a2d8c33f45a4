"""Pages of a list, newest first: ids are ULIDs, so their order is that of time."""

from typing import TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

Row = TypeVar("Row")


def read_page(
    session: Session, query: Select[Row], row_id: InstrumentedAttribute[str], after: str | None, limit: int
) -> tuple[list[Row], bool]:
    """At most ``limit`` rows that come after the id ``after``; and whether there are more."""
    if after is not None:
        query = query.where(row_id < after)
    rows = list(session.execute(query.order_by(row_id.desc()).limit(limit + 1)).scalars())
    return rows[:limit], len(rows) > limit
