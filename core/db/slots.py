"""Takes and frees the lanes of device slots. The primary key (slot, lane) keeps two holders apart."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.db.tables import SlotHold

TRAINING_LANE = 0


def is_free(session: Session, slot: str, lane: int = TRAINING_LANE) -> bool:
    held = select(SlotHold.slot).where(SlotHold.slot == slot, SlotHold.lane == lane)
    return session.execute(held).first() is None


def take(session: Session, slot: str, job_id: str, attempt: int, *, lane: int = TRAINING_LANE) -> None:
    """Raises IntegrityError where another holds the lane."""
    session.add(SlotHold(slot=slot, lane=lane, job_id=job_id, attempt=attempt))
    session.flush()


def release(session: Session, job_id: str) -> None:
    """All lanes that the job holds."""
    session.execute(delete(SlotHold).where(SlotHold.job_id == job_id))


def list_held(session: Session, job_id: str) -> Sequence[SlotHold]:
    query = select(SlotHold).where(SlotHold.job_id == job_id).order_by(SlotHold.slot, SlotHold.lane)
    return session.execute(query).scalars().all()
