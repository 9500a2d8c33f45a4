"""Who holds which lane of a device."""

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base


class SlotHold(Base):
    """One lane of a device slot, held by one attempt at a job. The row goes with the attempt.

    ``slot``: such as ``host/cuda:0/0``. A job may hold several lanes. The lease is the job's (``jobs.lease_until``).
    """

    __tablename__ = "slot_holds"

    slot: Mapped[str] = mapped_column(primary_key=True)
    lane: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, server_default=text("0"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]

    __table_args__ = (Index("ix_slot_holds_job_id", "job_id"),)
