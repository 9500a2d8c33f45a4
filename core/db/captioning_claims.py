"""The workers' side of captionings, over leases.py: claim one, keep what the captioner wrote, and write its end."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, literal, null, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased, undefer

from core.db import datasets, leases
from core.db.datasets import NewRevision
from core.db.leases import MAX_DEATHS, LostLease, RowClaim
from core.db.tables import Captioner, Captioning, Dataset, ImageCaption
from core.domain.errors import NotFound, describe_problem
from core.domain.ids import new_id
from core.domain.states import ModelStatus, TerminationReason, advice_of, title_of

TURN_MINUTES = 10
KEPT = timedelta(days=30)
"""Of what a captioner wrote, since it was last used: images leave traces in it, which must not stay for ever."""
_GIVEN_UP = f"It was started {MAX_DEATHS} times, and each time its worker died. Ask the operator to read the log"


@dataclass(frozen=True)
class CaptioningClaim(RowClaim):
    """A worker's claim: the captioning under one attempt. ``info`` and ``location``: the captioner's as it is now, both
    None if it is gone or not ready."""

    tenant_id: str
    dataset_id: str
    dataset_name: str | None
    plan: dict[str, Any]
    num_done: int
    manifest: dict[str, Any] | None
    info: dict[str, Any] | None
    location: str | None


def claim_captioning(session: Session, *, lease_seconds: float) -> CaptioningClaim | None:
    """That of the tenant for whom least is made, and was within TURN_MINUTES; of these the one that waited longest
    since its last turn."""
    waits_since = func.coalesce(Captioning.turn_ended_at, Captioning.created_at)
    row = leases.claim(session, Captioning, lease_seconds=lease_seconds, turn=_count_made(), since=waits_since)
    if row is None:
        return None
    found = select(Dataset).where(Dataset.id == row.dataset_id).options(undefer(Dataset.manifest))
    dataset = session.execute(found).scalar_one()
    captioner = session.get(Captioner, row.captioner_id)
    ready = captioner if captioner is not None and captioner.status == ModelStatus.READY else None
    return CaptioningClaim(
        id=row.id,
        attempt=row.attempt,
        tenant_id=row.tenant_id,
        dataset_id=row.dataset_id,
        dataset_name=dataset.name,
        plan=row.plan,
        num_done=row.num_done,
        manifest=dataset.manifest,
        info=None if ready is None else ready.info,
        location=None if ready is None else ready.location,
    )


def _count_made() -> ColumnElement[int]:
    """Of the row's tenant: those that a worker holds, and those that ended or had a turn lately. Each has an index."""
    other = aliased(Captioning)
    own = select(func.count(other.id)).where(other.tenant_id == Captioning.tenant_id)
    lately = func.clock_timestamp() - literal(timedelta(minutes=TURN_MINUTES))
    held = own.where(other.status == Captioning.CHECKING, other.lease_until.is_not(None))
    ended = own.where(other.ended_at > lately)
    paused = own.where(other.status == Captioning.CHECKING, other.turn_ended_at > lately)
    return held.scalar_subquery() + ended.scalar_subquery() + paused.scalar_subquery()


def find_words(session: Session, tenant_id: str, keys: Collection[str]) -> dict[str, str]:
    """What was written before, by key. Forgets the tenant's old ones, and remembers that these are used."""
    session.execute(
        delete(ImageCaption).where(
            ImageCaption.tenant_id == tenant_id, ImageCaption.used_at < func.clock_timestamp() - literal(KEPT)
        )
    )
    used = (
        update(ImageCaption)
        .where(ImageCaption.tenant_id == tenant_id, ImageCaption.key.in_(keys))
        .values(used_at=func.clock_timestamp())
        .returning(ImageCaption.key, ImageCaption.words)
    )
    return {row.key: row.words for row in session.execute(used)}


def keep_words(session: Session, claim: CaptioningClaim, words: Mapping[str, str], *, num_done: int) -> None:
    """What the captioner wrote, by key. Raises LostLease."""
    report_progress(session, claim, num_done=num_done)
    rows = [{"tenant_id": claim.tenant_id, "key": key, "words": text} for key, text in words.items()]
    session.execute(insert(ImageCaption).values(rows).on_conflict_do_nothing())


def report_progress(session: Session, claim: CaptioningClaim, **values: Any) -> None:
    """Raises LostLease."""
    fence = (Captioning.id == claim.id, Captioning.attempt == claim.attempt, Captioning.lease_until.is_not(None))
    written = update(Captioning).where(*fence, Captioning.status == Captioning.CHECKING).values(**values)
    if session.execute(written.returning(Captioning.id)).first() is None:
        raise LostLease(claim.id)


def end_turn(session: Session, claim: CaptioningClaim) -> None:
    """Before it is released for others. Raises LostLease."""
    report_progress(session, claim, turn_ended_at=func.clock_timestamp())


def succeed(session: Session, claim: CaptioningClaim, name: str | None, new: NewRevision | None) -> bool:
    """With its revision; without one the captions are as they were, and the dataset itself is the result."""
    try:
        # The dataset's row is locked before that of the captioning, as where a dataset is deleted.
        datasets.get_dataset(session, claim.tenant_id, claim.dataset_id, lock=True)
        report_progress(session, claim, turn_ended_at=null())
    except (NotFound, LostLease):
        return False
    revision_id = claim.dataset_id
    if new is not None:
        revision_id = new_id("ds")
        datasets.insert_revision(
            session,
            dataset_id=revision_id,
            tenant_id=claim.tenant_id,
            name=name,
            parent_id=claim.dataset_id,
            new=new,
        )
    return leases.end(session, Captioning, claim, "succeeded", revision_id=revision_id, ended_at=func.clock_timestamp())


def fail(session: Session, claim: CaptioningClaim, reason: TerminationReason, detail: str) -> bool:
    error = _describe(reason, detail)
    return leases.end(session, Captioning, claim, "failed", error=error, ended_at=func.clock_timestamp())


def expire_captionings(session: Session) -> list[Captioning]:
    """Takes back every captioning whose worker lost its lease; fails one at its last death. For the steward."""
    error = _describe(TerminationReason.INFRASTRUCTURE, _GIVEN_UP)
    given_up = {"status": "failed", "error": error, "ended_at": func.clock_timestamp()}
    return leases.take_back(session, Captioning, given_up)


def _describe(reason: TerminationReason, detail: str) -> dict[str, str]:
    return describe_problem(reason, title_of(reason), f"{detail.rstrip('. ')}." if detail else advice_of(reason))
