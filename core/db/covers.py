"""Pictures that clients send as covers: inserted by the API, claimed and answered by workers over leases.py.

The rows of an adapter that have ended are forgotten when the next picture comes.
"""

from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from core.db import adapters, audit, leases
from core.db.leases import MAX_DEATHS, RowClaim
from core.db.tables import Adapter, SentCover
from core.domain.artifacts import Artifact
from core.domain.audit import Action
from core.domain.errors import ImageRejected, NotFound, WrongState
from core.domain.states import CoverStatus

_GIVEN_UP = f"Reading it was started {MAX_DEATHS} times, and each time the worker died. Send another picture."


@dataclass(frozen=True)
class CoverClaim(RowClaim):
    """A worker's claim."""

    adapter_id: str
    upload: Artifact


def insert_cover(session: Session, tenant_id: str, adapter_id: str, cover_id: str, upload: Artifact) -> SentCover:
    """Raises NotFound, and WrongState while another picture of the adapter waits."""
    adapters.get_adapter(session, tenant_id, adapter_id, lock=True)
    own = SentCover.adapter_id == adapter_id
    waiting = select(SentCover.id).where(own, SentCover.status == CoverStatus.CHECKING).limit(1)
    if (other := session.execute(waiting).scalar_one_or_none()) is not None:
        raise WrongState(f"Another picture of adapter {adapter_id}, {other}, is being read: wait for it.")
    session.execute(delete(SentCover).where(own))
    row = SentCover(
        id=cover_id,
        tenant_id=tenant_id,
        adapter_id=adapter_id,
        upload=upload.model_dump(),
        status=CoverStatus.CHECKING,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    audit.record(session, Action.COVER_SENT, cover_id)
    return row


def get_cover(session: Session, tenant_id: str, adapter_id: str, cover_id: str) -> SentCover:
    """Raises NotFound, also for another tenant's."""
    wanted = (SentCover.id == cover_id, SentCover.adapter_id == adapter_id, SentCover.tenant_id == tenant_id)
    row = session.execute(select(SentCover).where(*wanted)).scalar_one_or_none()
    if row is None:
        raise NotFound(f"Adapter {adapter_id} has no picture {cover_id}; only the last one that was sent is known.")
    return row


def claim_cover(session: Session, *, lease_seconds: float) -> CoverClaim | None:
    row = leases.claim(session, SentCover, lease_seconds=lease_seconds)
    if row is None:
        return None
    return CoverClaim(row.id, row.attempt, row.adapter_id, Artifact.model_validate(row.upload))


def commit_cover(session: Session, claim: CoverClaim, cover: Artifact) -> tuple[bool, str | None]:
    """Whether the claim still stood, and the key of the cover that this one replaces."""
    adapter = session.execute(
        select(Adapter).where(Adapter.id == claim.adapter_id).with_for_update()
    ).scalar_one_or_none()
    if adapter is None or not leases.end(session, SentCover, claim, CoverStatus.READY):
        return False, None
    before = adapter.cover
    adapter.cover = cover.model_dump()
    return True, before["key"] if before and before["key"] != cover.key else None


def reject_cover(session: Session, claim: CoverClaim, detail: str) -> bool:
    return leases.end(session, SentCover, claim, CoverStatus.REJECTED, error=ImageRejected(detail).describe())


def expire_covers(session: Session) -> list[SentCover]:
    """Takes back every picture whose worker lost its lease; rejects one at its last death. For the steward."""
    given_up = {"status": CoverStatus.REJECTED, "error": ImageRejected(_GIVEN_UP).describe()}
    return leases.take_back(session, SentCover, given_up)


def list_cover_references(session: Session, cover_id: str) -> frozenset[str]:
    """The keys in the picture's own folder that rows name."""
    is_there = func.strpos(Adapter.cover["key"].astext, f"/{cover_id}/") > 0
    covers = session.execute(select(Adapter.cover).where(is_there)).scalars()
    return frozenset(cover["key"] for cover in covers if cover)
