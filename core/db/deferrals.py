"""Deferral of datasets and imports that failed because of the infrastructure, with a reason for their owner.

Without a delay the failing one would at once be the oldest again, and nothing behind it would ever be claimed.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, literal, or_

from core.db.tables import Adapter, Dataset

FIRST_DELAY_SECONDS = 5
MAX_DELAY_SECONDS = 300


def is_claimable(table: type[Adapter] | type[Dataset]) -> ColumnElement[bool]:
    """No worker holds the row, and its deferral is over."""
    return table.lease_until.is_(None) & or_(table.run_after.is_(None), table.run_after <= func.clock_timestamp())


def defer(table: type[Adapter] | type[Dataset], reason: str) -> dict[str, Any]:
    """The values to write: the delay doubles at each deferral, up to MAX_DELAY_SECONDS."""
    delay = func.least(FIRST_DELAY_SECONDS * func.power(2, func.least(table.num_deferrals, 16)), MAX_DELAY_SECONDS)
    return {
        "num_deferrals": table.num_deferrals + 1,
        "waiting_reason": reason,
        "run_after": func.clock_timestamp() + delay * literal(timedelta(seconds=1)),
    }
