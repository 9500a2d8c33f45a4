"""What a worker could not do for no fault of the thing's: it is put off, and its owner is told why.

For rows that wait for a worker under a lease: datasets, imported adapters. Without a pause the one that fails would
be the oldest again at once, and nothing behind it would ever come to its turn.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, literal, or_

from core.db.tables import Adapter, Dataset

FIRST_PAUSE_SECONDS = 5
MAX_PAUSE_SECONDS = 300


def waits(table: type[Adapter] | type[Dataset]) -> ColumnElement[bool]:
    """Nobody holds the row, and its pause is over."""
    return table.lease_until.is_(None) & or_(table.due_at.is_(None), table.due_at <= func.clock_timestamp())


def put_off(table: type[Adapter] | type[Dataset], reason: str) -> dict[str, Any]:
    """What to write: twice the pause at each setback, up to the longest. ``reason`` is read by the owner."""
    pause = func.least(FIRST_PAUSE_SECONDS * func.power(2, func.least(table.setbacks, 16)), MAX_PAUSE_SECONDS)
    due_at = func.clock_timestamp() + pause * literal(timedelta(seconds=1))
    return {"setbacks": table.setbacks + 1, "setback": reason, "due_at": due_at}
