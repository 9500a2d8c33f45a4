"""The base of every table."""

from datetime import date, datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Date, DateTime, Float, MetaData, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

DEFAULT_TENANT = "ten_default"

_NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar = {
        datetime: DateTime(timezone=True),
        date: Date,
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        int: BigInteger,
        float: Float(53),
    }


def now() -> Mapped[datetime]:
    return mapped_column(server_default=func.clock_timestamp())


class Leased:
    """A row that one worker at a time holds. ``attempt`` is the fence; without a ``lease_until`` nobody holds it."""

    status: Mapped[str]
    attempt: Mapped[int] = mapped_column(server_default="0")
    lease_until: Mapped[datetime | None]


class Checked(Leased):
    """Something that a worker checks or makes, in the status ``CHECKING``. See core/db/leases.py."""

    CHECKING: ClassVar[str]

    id: Mapped[str] = mapped_column(primary_key=True)
    error: Mapped[dict[str, Any] | None]
    num_deferrals: Mapped[int] = mapped_column(server_default="0")
    waiting_reason: Mapped[str | None]
    run_after: Mapped[datetime | None]
    created_at: Mapped[datetime] = now()
