"""Captioners: registered by the operator, loaded and tried out by workers, and the same for every tenant."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, null, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db import audit, leases
from core.db.leases import MAX_DEATHS, RowClaim
from core.db.tables import Captioner
from core.domain.audit import Action
from core.domain.captioner import CaptionerInfo, CaptionerSource
from core.domain.errors import CaptionerRejected, NotFound, WrongState
from core.domain.states import ModelStatus

_GIVEN_UP = f"It was loaded {MAX_DEATHS} times, and each time the worker died. Read the worker's log."


@dataclass(frozen=True)
class CaptionerClaim(RowClaim):
    """A worker's claim: the requested captioner. ``location``: its folder below the models directory."""

    source: CaptionerSource
    location: str


def request_captioner(session: Session, captioner_id: str, source: CaptionerSource, *, location: str) -> Captioner:
    """To be loaded by a worker. It replaces one of the same id."""
    values = {
        "status": ModelStatus.CHECKING,
        "source": source.model_dump(mode="json"),
        "location": location,
        "info": null(),
        "error": null(),
        "attempt": 0,
        "lease_until": null(),
        "num_deferrals": 0,
        "waiting_reason": null(),
        "run_after": null(),
    }
    row = insert(Captioner).values(id=captioner_id, **values)
    row = row.on_conflict_do_update(index_elements=["id"], set_=values)
    made = session.execute(row.returning(Captioner), execution_options={"populate_existing": True}).scalar_one()
    audit.record(session, Action.CAPTIONER_REGISTERED, captioner_id)
    return made


def get_captioner(session: Session, captioner_id: str) -> Captioner:
    """Raises NotFound, naming the usable ones."""
    row = session.get(Captioner, captioner_id)
    if row is None:
        ready = [each.id for each in list_captioners(session) if each.status == ModelStatus.READY]
        close = difflib.get_close_matches(captioner_id, ready, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        known = ", ".join(ready) or "none; the operator registers them by POST /captioners"
        raise NotFound(f"There is no captioner {captioner_id!r}.{hint} Registered are: {known}.")
    return row


def read_info(row: Captioner) -> CaptionerInfo:
    """Raises WrongState for a captioner that is not ready, with what to do."""
    if row.status == ModelStatus.READY:
        return CaptionerInfo.model_validate(row.info)
    if row.status == ModelStatus.CHECKING:
        raise WrongState(f"Captioner {row.id} is checking: wait until GET /captioners/{row.id} says ready.")
    raise WrongState(f"Captioner {row.id} is rejected: {(row.error or {}).get('detail', 'register it again.')}")


def list_captioners(session: Session) -> Sequence[Captioner]:
    return session.execute(select(Captioner).order_by(Captioner.id)).scalars().all()


def delete_captioner(session: Session, captioner_id: str) -> Captioner:
    """The deleted row. Queued captionings by it fail. Raises NotFound, and WrongState while a worker loads it."""
    row = session.execute(
        select(Captioner)
        .where(Captioner.id == captioner_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).scalar_one_or_none() or get_captioner(session, captioner_id)
    if row.status == ModelStatus.CHECKING and row.lease_until is not None:
        raise WrongState(f"A worker is loading the captioner {captioner_id} right now: wait until it is done.")
    session.execute(delete(Captioner).where(Captioner.id == captioner_id))
    session.expunge(row)
    audit.record(session, Action.CAPTIONER_DELETED, captioner_id)
    return row


def claim_registration(session: Session, *, lease_seconds: float) -> CaptionerClaim | None:
    row = leases.claim(session, Captioner, lease_seconds=lease_seconds)
    if row is None:
        return None
    return CaptionerClaim(row.id, row.attempt, CaptionerSource.model_validate(row.source), row.location)


def is_still_requested(session: Session, claim: CaptionerClaim) -> bool:
    """False if it was registered again meanwhile, from another source. Locks the row."""
    source = select(Captioner.source).where(Captioner.id == claim.id).with_for_update()
    return session.execute(source).scalar_one_or_none() == claim.source.model_dump(mode="json")


def commit_registration(session: Session, claim: CaptionerClaim, info: CaptionerInfo) -> bool:
    if not is_still_requested(session, claim):
        return False
    return leases.end(session, Captioner, claim, ModelStatus.READY, info=info.model_dump(mode="json"))


def reject_registration(session: Session, claim: CaptionerClaim, detail: str) -> bool:
    if not is_still_requested(session, claim):
        return False
    return leases.end(session, Captioner, claim, ModelStatus.REJECTED, error=CaptionerRejected(detail).describe())


def expire_registrations(session: Session) -> list[Captioner]:
    """Takes back every captioner whose worker lost its lease; rejects one at its last death. For the steward."""
    given_up = {"status": ModelStatus.REJECTED, "error": CaptionerRejected(_GIVEN_UP).describe()}
    return leases.take_back(session, Captioner, given_up)
