"""A tenant's own row by its id."""

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlalchemy.orm.interfaces import ORMOption

from core.db.tables import Adapter, ApiKey, Captioning, Dataset, Generation, Job
from core.domain.errors import NotFound

Row = TypeVar("Row", Adapter, ApiKey, Captioning, Dataset, Generation, Job)


def get_own(
    session: Session,
    table: type[Row],
    what: str,
    tenant_id: str,
    row_id: str,
    *,
    lock: bool = False,
    options: Sequence[ORMOption] = (),
) -> Row:
    """Raises NotFound, also for another tenant's: "There is no ``what`` …". ``lock`` holds the row until the
    transaction ends."""
    query = select(table).where(table.id == row_id, table.tenant_id == tenant_id).options(*options)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    row = session.execute(query).scalar_one_or_none()
    if row is None:
        raise NotFound(f"There is no {what} {row_id}.")
    return row
