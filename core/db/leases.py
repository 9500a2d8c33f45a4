"""Leases on rows that one worker at a time works on, such as datasets and generations: claim one, hold it, write the
outcome. Jobs and deliveries share ``lock_expired`` and ``LostLease``; their fences are in job_claims.py and
delivery_claims.py.

The fence is the attempt number together with the lease: a write succeeds only while this very attempt holds the
row. ``False`` means that it no longer does: stop, write nothing.

A row that failed because of the infrastructure is deferred, with a reason for its owner. Without a delay it would at
once be the oldest again, and nothing behind it would ever be claimed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, func, literal, or_, select, update
from sqlalchemy.orm import Session

from core.db.session import from_now
from core.db.tables import Checked, Leased

MAX_DEATHS = 5
FIRST_DELAY_SECONDS = 5
MAX_DELAY_SECONDS = 300

L = TypeVar("L", bound=Leased)
C = TypeVar("C", bound=Checked)


class LostLease(Exception):
    """Another attempt holds the row, or it ended: this one must not write any more."""


@dataclass(frozen=True)
class RowClaim:
    """A worker's claim: a row under one attempt."""

    id: str
    attempt: int


def claim(
    session: Session,
    table: type[C],
    *,
    lease_seconds: float,
    turn: ColumnElement[int] | None = None,
    only: ColumnElement[bool] | None = None,
    since: ColumnElement[datetime] | None = None,
) -> C | None:
    """Takes the row that has waited longest, or None. Rows that killed workers come last. ``turn``: among the others,
    the lowest goes first, however long it has waited. ``only``: which rows are looked at. ``since``: the time since
    which a row waits; by default its creation."""
    waiting = (
        select(table.id)
        .where(_is_claimable(table), *([] if only is None else [only]))
        .order_by(table.attempt, *([] if turn is None else [turn]), table.created_at if since is None else since)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = (
        update(table)
        .where(table.id == waiting)
        .values(attempt=table.attempt + 1, lease_until=from_now(lease_seconds))
        .returning(table)
        .execution_options(populate_existing=True)
    )
    return session.execute(taken).scalar_one_or_none()


def renew(session: Session, table: type[Checked], held: RowClaim, *, lease_seconds: float) -> bool:
    return _write(session, table, held, lease_until=from_now(lease_seconds))


def end(session: Session, table: type[Checked], held: RowClaim, status: str, **values: Any) -> bool:
    """Writes the outcome of the check."""
    return _write(session, table, held, status=status, lease_until=None, waiting_reason=None, **values)


def release(session: Session, table: type[Checked], held: RowClaim, waiting_reason: str | None = None) -> bool:
    """For a worker that drains, or that cannot continue for a reason outside of the upload (``waiting_reason``, which
    defers it). The attempt is not counted, and its number may be used again: no other worker ever held it.
    """
    deferral = {} if waiting_reason is None else _defer(table, waiting_reason)
    return _write(session, table, held, lease_until=None, attempt=held.attempt - 1, **deferral)


def take_back(session: Session, table: type[C], given_up: Mapping[str, Any]) -> list[C]:
    """Takes back every row whose worker lost its lease. One at its last death gets the values ``given_up``."""
    rows = lock_expired(session, table, table.CHECKING)
    for row in rows:
        row.lease_until = None
        if row.attempt >= MAX_DEATHS:
            for name, value in given_up.items():
                setattr(row, name, value)
    session.flush()
    return rows


def lock_expired(session: Session, table: type[L], *statuses: str) -> list[L]:
    """The rows in these statuses whose worker lost its lease, locked until the transaction ends."""
    expired = (
        select(table)
        .where(table.status.in_(statuses), table.lease_until < func.clock_timestamp())
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    return list(session.execute(expired).scalars())


def count_waiting(session: Session, table: type[Checked]) -> int:
    return session.execute(select(func.count(table.id)).where(_is_claimable(table))).scalar_one()


def is_gone(session: Session, table: type[Checked], row_id: str) -> bool:
    return session.execute(select(table.id).where(table.id == row_id)).first() is None


def _is_claimable(table: type[Checked]) -> ColumnElement[bool]:
    """No worker holds the row, and its deferral is over."""
    is_due = or_(table.run_after.is_(None), table.run_after <= func.clock_timestamp())
    return (table.status == table.CHECKING) & table.lease_until.is_(None) & is_due


def _defer(table: type[Checked], reason: str) -> dict[str, Any]:
    """The values to write: the delay doubles at each deferral, up to MAX_DELAY_SECONDS."""
    delay = func.least(FIRST_DELAY_SECONDS * func.power(2, func.least(table.num_deferrals, 16)), MAX_DELAY_SECONDS)
    return {
        "num_deferrals": table.num_deferrals + 1,
        "waiting_reason": reason,
        "run_after": func.clock_timestamp() + delay * literal(timedelta(seconds=1)),
    }


def _write(session: Session, table: type[Checked], held: RowClaim, **values: Any) -> bool:
    fence = (table.id == held.id, table.attempt == held.attempt, table.status == table.CHECKING)
    statement = update(table).where(*fence, table.lease_until.is_not(None)).values(**values)
    return session.execute(statement.returning(table.id)).first() is not None
