"""Tenants' limits, and reservations against them.

A reservation first locks its tenant's row here, and only then counts: so each of several concurrent ones sees those
before it. Running jobs are counted when they are claimed (job_claims.py).
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
    """Before anything else is locked but an Idempotency-Key: until the transaction ends, no other one reserves for this
    tenant."""
    query = select(Quota).where(Quota.tenant_id == tenant_id).with_for_update()
    locking = query.execution_options(populate_existing=True)
    row = session.execute(locking).scalar_one_or_none()
    if row is None:
        session.execute(insert(Quota).values(tenant_id=tenant_id).on_conflict_do_nothing(index_elements=["tenant_id"]))
        row = session.execute(locking).scalar_one()
    return _read(row, defaults)


def set_limits(session: Session, tenant_id: str, limits: Limits | None) -> bool:
    """None: restores the limits of the settings. Existing usage stays, even above the new limits. Returns whether
    anything changed."""
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
    _check_queue(session, tenant_id, limits)
    _check_bytes(session, tenant_id, limits, num_more=1)
    _reserve_steps(session, tenant_id, limits, steps)


def _check_queue(session: Session, tenant_id: str, limits: Limits) -> None:
    if limits.queued_jobs is None:
        return
    waiting = usage.count_jobs(session, tenant_id).waiting
    if waiting >= limits.queued_jobs:
        raise QuotaExceeded(
            f"Queue limit reached: {waiting:,} of {counted(limits.queued_jobs, 'job')} "
            f"{'is' if limits.queued_jobs == 1 else 'are'} waiting. Wait for one to start, or cancel one."
        )


def _reserve_steps(session: Session, tenant_id: str, limits: Limits, steps: int) -> None:
    """They are added before they are compared: a refusal undoes the whole transaction."""
    used = usage.add_steps(session, tenant_id, steps) - steps
    if limits.steps_per_day is not None and used + steps > limits.steps_per_day:
        raise QuotaExceeded(
            f"Daily step limit reached: the job takes {counted(steps, 'step')}, and {used:,} of "
            f"{limits.steps_per_day:,} are used today (UTC). Use fewer steps, wait for "
            "tomorrow, or ask the operator for a larger quota.",
            retry_after_seconds=usage.count_seconds_of_day_left(session) if steps <= limits.steps_per_day else None,
        )


def refuse_full_storage(session: Session, tenant_id: str, defaults: Limits) -> None:
    """Before receiving anything to store. Raises QuotaExceeded if there is no room at all."""
    _check_bytes(session, tenant_id, get_limits(session, tenant_id, defaults), num_more=1)


def check_room(session: Session, tenant_id: str, limits: Limits) -> None:
    """For something that will be stored later. Raises QuotaExceeded if there is no room at all."""
    _check_bytes(session, tenant_id, limits, num_more=1)


def find_room(session: Session, tenant_id: str, defaults: Limits) -> int | None:
    """The bytes that the tenant may still store; None without a limit."""
    limits = get_limits(session, tenant_id, defaults)
    if limits.stored_bytes is None:
        return None
    return max(0, limits.stored_bytes - usage.sum_stored_bytes(session, tenant_id))


def check_storage(session: Session, tenant_id: str, limits: Limits) -> None:
    """After the rows of the stored files are inserted, and before the commit. Raises QuotaExceeded."""
    _check_bytes(session, tenant_id, limits, num_more=0)


def _check_bytes(session: Session, tenant_id: str, limits: Limits, *, num_more: int) -> None:
    if limits.stored_bytes is None:
        return
    used = usage.sum_stored_bytes(session, tenant_id)
    if used + num_more > limits.stored_bytes:
        raise QuotaExceeded(
            f"{'With this, ' if not num_more else ''}{used:,} of {counted(limits.stored_bytes, 'byte')} of storage are "
            "used. Delete datasets, jobs, adapters or generations, or ask the operator for a larger quota."
        )


def _read(row: Quota | None, defaults: Limits) -> Limits:
    if row is None or row.is_default:
        return defaults
    return Limits.model_validate({name: getattr(row, name) for name in Limits.model_fields})
