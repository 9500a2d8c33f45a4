"""Tenants' limits, and what is reserved against them.

Whoever reserves first locks its tenant's row here, and only then counts what there is: so of many at once each sees
what those before it took. Running jobs are counted where they are claimed (claims.py).
"""

from sqlalchemy import or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db import usage
from core.db.tables import Quota
from core.domain.counts import counted
from core.domain.errors import QuotaExceeded
from core.domain.limits import Limits


def get_limits(session: Session, tenant_id: str, defaults: Limits) -> Limits:
    return _read(session.get(Quota, tenant_id), defaults)


def lock_limits(session: Session, tenant_id: str, defaults: Limits) -> Limits:
    """Before anything else is locked: until the transaction ends, nobody else reserves for this tenant."""
    session.execute(insert(Quota).values(tenant_id=tenant_id).on_conflict_do_nothing(index_elements=["tenant_id"]))
    query = select(Quota).where(Quota.tenant_id == tenant_id).with_for_update()
    return _read(session.execute(query.execution_options(populate_existing=True)).scalar_one(), defaults)


def set_limits(session: Session, tenant_id: str, limits: Limits | None) -> bool:
    """None: those of the settings hold again. What is in use already stays, also above the new limits. Whether
    anything changed by it."""
    lock_limits(session, tenant_id, Limits.unlimited())
    values: dict[str, object] = limits.model_dump() if limits else dict.fromkeys(Limits.model_fields)
    values["is_default"] = limits is None
    differs = or_(*(getattr(Quota, name).is_distinct_from(value) for name, value in values.items()))
    changed = update(Quota).where(Quota.tenant_id == tenant_id, differs).values(values).returning(Quota.tenant_id)
    return session.execute(changed).first() is not None


def reserve_job(session: Session, tenant_id: str, limits: Limits, *, steps: int) -> None:
    """A place in the queue and the steps, in the transaction that inserts the job; ``limits`` from ``lock_limits``.

    Raises QuotaExceeded.
    """
    waiting = usage.count_jobs(session, tenant_id).waiting
    if limits.queued_jobs is not None and waiting >= limits.queued_jobs:
        raise QuotaExceeded(
            f"{counted(waiting, 'job')} of yours {'waits' if waiting == 1 else 'wait'}, and no more than "
            f"{limits.queued_jobs:,} may wait at once. Wait until one begins, cancel one, or ask the "
            "operator for a larger quota."
        )
    _check_bytes(session, tenant_id, limits, num_more=1)
    _reserve_steps(session, tenant_id, limits, steps)


def _reserve_steps(session: Session, tenant_id: str, limits: Limits, steps: int) -> None:
    used = usage.count_steps(session, tenant_id)
    if limits.steps_per_day is not None and used + steps > limits.steps_per_day:
        raise QuotaExceeded(
            f"The job takes {counted(steps, 'step')}, and {used:,} of the {limits.steps_per_day:,} of today (UTC) are "
            "used. Ask for fewer, wait for tomorrow, or ask the operator for a larger quota.",
            retry_after_seconds=usage.count_seconds_of_day_left(session) if steps <= limits.steps_per_day else None,
        )
    usage.add_steps(session, tenant_id, steps)


def refuse_full_storage(session: Session, tenant_id: str, defaults: Limits) -> None:
    """Before anything is received that is to be stored. Raises QuotaExceeded when there is no room at all."""
    _check_bytes(session, tenant_id, get_limits(session, tenant_id, defaults), num_more=1)


def check_storage(session: Session, tenant_id: str, limits: Limits) -> None:
    """After the rows of what was stored are there, and before they are committed. Raises QuotaExceeded."""
    _check_bytes(session, tenant_id, limits, num_more=0)


def _check_bytes(session: Session, tenant_id: str, limits: Limits, *, num_more: int) -> None:
    if limits.stored_bytes is None:
        return
    used = usage.sum_stored_bytes(session, tenant_id)
    if used + num_more > limits.stored_bytes:
        raise QuotaExceeded(
            f"{'With this, ' if not num_more else ''}{used:,} of {counted(limits.stored_bytes, 'byte')} of storage are "
            "used. Delete datasets, jobs or adapters, or ask the operator for a larger quota."
        )


def _read(row: Quota | None, defaults: Limits) -> Limits:
    if row is None or row.is_default:
        return defaults
    return Limits.model_validate({name: getattr(row, name) for name in Limits.model_fields})
