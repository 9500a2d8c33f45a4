"""The workers' side of imported adapters: claim one that needs a check, hold it, and commit the findings.

The fence is the attempt number together with the lease, as for datasets (dataset_claims.py): ``False`` means that
this attempt no longer holds the row: stop, write nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import case, func, null, select, update
from sqlalchemy.orm import Session

from core.db.deferrals import defer, is_claimable
from core.db.session import read_clock
from core.db.tables import Adapter
from core.domain.adapter_import import Findings
from core.domain.artifacts import AdapterFormat, Artifact
from core.domain.errors import AdapterRejected
from core.domain.model import Family

MAX_DEATHS = 5
_GIVEN_UP = (
    f"Its check was started {MAX_DEATHS} times, and each time its worker died. Ask the operator to read the log."
)


@dataclass(frozen=True)
class ImportClaim:
    """A worker's claim: the adapter under one attempt."""

    adapter_id: str
    attempt: int
    model_id: str
    family: Family
    upload: Artifact


def claim_import(session: Session, *, lease_seconds: float) -> ImportClaim | None:
    """Takes the oldest waiting import, or None. Imports that killed workers come last."""
    waiting = (
        select(Adapter.id)
        .where(Adapter.status == "checking", is_claimable(Adapter))
        .order_by(Adapter.attempt, Adapter.created_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    claim = (
        update(Adapter)
        .where(Adapter.id == waiting)
        .values(attempt=Adapter.attempt + 1, lease_until=_from_now(lease_seconds))
        .returning(Adapter.id, Adapter.attempt, Adapter.model_id, Adapter.family, Adapter.upload)
    )
    row = session.execute(claim).first()
    return None if row is None else ImportClaim(row[0], row[1], row[2], row[3], Artifact.model_validate(row[4]))


def renew_import(session: Session, claim: ImportClaim, *, lease_seconds: float) -> bool:
    return _write(session, claim, lease_until=_from_now(lease_seconds))


def commit_import(
    session: Session, claim: ImportClaim, findings: Findings, files: Mapping[AdapterFormat, Artifact]
) -> bool:
    """The file's trigger is used if its owner gave none."""
    found = findings.model_dump(mode="json")
    found["trigger"] = case((Adapter.trigger == "", findings.trigger), else_=Adapter.trigger)
    kept = {name: file.model_dump() for name, file in files.items()}
    return _end(session, claim, "ready", files=kept, **found)


def reject_import(session: Session, claim: ImportClaim, detail: str) -> bool:
    return _end(session, claim, "rejected", error=_error_of(detail))


def release_import(session: Session, claim: ImportClaim, waiting_reason: str | None = None) -> bool:
    """For a worker that drains, or that cannot continue for a reason outside of the file (``waiting_reason``, which
    defers it). The attempt is not counted, and its number may be used again: no other worker ever held it.
    """
    deferral = {} if waiting_reason is None else defer(Adapter, waiting_reason)
    return _write(session, claim, lease_until=None, attempt=claim.attempt - 1, **deferral)


def expire_imports(session: Session) -> list[Adapter]:
    """Takes back every import whose worker lost its lease; rejects one at its last death. For the steward."""
    expired = (
        select(Adapter)
        .where(Adapter.status == "checking", Adapter.lease_until < func.clock_timestamp())
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    adapters = list(session.execute(expired).scalars())
    for adapter in adapters:
        adapter.lease_until = None
        if adapter.attempt >= MAX_DEATHS:
            adapter.status, adapter.error = "rejected", _error_of(_GIVEN_UP)
            adapter.checked_at = read_clock(session)
    session.flush()
    return adapters


def count_waiting_imports(session: Session) -> int:
    waiting = select(func.count()).where(Adapter.status == "checking", is_claimable(Adapter))
    return session.execute(waiting).scalar_one()


def is_adapter_gone(session: Session, adapter_id: str) -> bool:
    return session.execute(select(Adapter.id).where(Adapter.id == adapter_id)).first() is None


def _end(session: Session, claim: ImportClaim, status: str, **values: Any) -> bool:
    ended: dict[str, Any] = {"status": status, "lease_until": None, "upload": null(), "waiting_reason": None}
    ended["checked_at"] = func.clock_timestamp()
    return _write(session, claim, **ended, **values)


def _write(session: Session, claim: ImportClaim, **values: Any) -> bool:
    held = (
        Adapter.id == claim.adapter_id,
        Adapter.attempt == claim.attempt,
        Adapter.status == "checking",
        Adapter.lease_until.is_not(None),
    )
    return session.execute(update(Adapter).where(*held).values(**values).returning(Adapter.id)).first() is not None


def _error_of(detail: str) -> dict[str, str]:
    return {"type": f"/problems/{AdapterRejected.slug}", "title": AdapterRejected.title, "detail": detail}


def _from_now(seconds: float) -> Any:
    return func.clock_timestamp() + timedelta(seconds=seconds)
