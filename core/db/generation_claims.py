"""The workers' side of generations, over leases.py: claim one, add its images, and write its end."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, literal, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, aliased

from core.db import leases
from core.db.leases import MAX_DEATHS, LostLease, RowClaim
from core.db.tables import Generation, Model
from core.domain.artifacts import Artifact
from core.domain.errors import describe_problem
from core.domain.states import TerminationReason, advice_of, title_of

TURN_MINUTES = 10
_GIVEN_UP = f"It was started {MAX_DEATHS} times, and each time its worker died. Ask the operator to read the log"


@dataclass(frozen=True)
class GenerationClaim(RowClaim):
    """A worker's claim: the generation under one attempt. ``card``: the base's."""

    plan: dict[str, Any]
    card: dict[str, Any] | None


def claim_generation(
    session: Session, *, lease_seconds: float, model_sha256: str | None = None
) -> GenerationClaim | None:
    """That of the tenant for whom least is drawn, and was within TURN_MINUTES; of these the one that waited longest.
    ``model_sha256``: only of those on this base."""
    only = None if model_sha256 is None else Generation.plan["model_sha256"].astext == model_sha256
    row = leases.claim(session, Generation, lease_seconds=lease_seconds, turn=_count_drawn(), only=only)
    if row is None:
        return None
    return GenerationClaim(row.id, row.attempt, row.plan, session.get_one(Model, row.model_id).info)


def _count_drawn() -> ColumnElement[int]:
    """Of the row's tenant: those that a worker holds, and the recent ones. Each has an index."""
    other = aliased(Generation)
    own = select(func.count(other.id)).where(other.tenant_id == Generation.tenant_id)
    held = own.where(other.status == Generation.CHECKING, other.lease_until.is_not(None))
    recent = own.where(other.ended_at > func.clock_timestamp() - literal(timedelta(minutes=TURN_MINUTES)))
    return held.scalar_subquery() + recent.scalar_subquery()


def add_image(session: Session, claim: GenerationClaim, name: str, image: Artifact) -> None:
    """``name``: an image's index, or ``name_sheet``'s. Raises LostLease."""
    added = Generation.images.op("||")(literal({name: image.model_dump()}, JSONB))
    fence = (Generation.id == claim.id, Generation.attempt == claim.attempt, Generation.lease_until.is_not(None))
    written = update(Generation).where(*fence, Generation.status == Generation.CHECKING).values(images=added)
    if session.execute(written.returning(Generation.id)).first() is None:
        raise LostLease(claim)


def succeed(session: Session, claim: GenerationClaim) -> bool:
    return leases.end(session, Generation, claim, "succeeded", ended_at=func.clock_timestamp())


def fail(session: Session, claim: GenerationClaim, reason: TerminationReason, detail: str) -> bool:
    error = _describe(reason, detail)
    return leases.end(session, Generation, claim, "failed", error=error, ended_at=func.clock_timestamp())


def expire_generations(session: Session) -> list[Generation]:
    """Takes back every generation whose worker lost its lease; fails one at its last death. For the steward."""
    error = _describe(TerminationReason.INFRASTRUCTURE, _GIVEN_UP)
    given_up = {"status": "failed", "error": error, "ended_at": func.clock_timestamp()}
    return leases.take_back(session, Generation, given_up)


def _describe(reason: TerminationReason, detail: str) -> dict[str, str]:
    return describe_problem(reason, title_of(reason), f"{detail.rstrip('. ')}." if detail else advice_of(reason))
