"""Links to adapters: made and revoked by their owners, and opened by whoever has the secret."""

import hmac
from datetime import timedelta

from sqlalchemy import func, literal, select, update
from sqlalchemy.orm import Session

from core.db import adapters, audit
from core.db.paging import read_page
from core.db.row_security import act_for, present
from core.db.tables import Adapter, AdapterLink
from core.domain.audit import Action
from core.domain.counts import counted
from core.domain.errors import NotFound, QuotaExceeded, WrongState
from core.domain.ids import new_id
from core.domain.links import MAX_LINKS
from core.domain.states import AdapterStatus


def insert_link(session: Session, tenant_id: str, adapter_id: str, sha256: str, seconds: int) -> AdapterLink:
    """Raises NotFound, WrongState, QuotaExceeded."""
    adapter = adapters.get_adapter(session, tenant_id, adapter_id, lock=True)
    if adapter.status != AdapterStatus.READY:
        raise WrongState(f"Adapter {adapter_id} is {adapter.status}: only ready adapters can be shared.")
    query = select(func.count(AdapterLink.id)).where(AdapterLink.adapter_id == adapter_id)
    if (known := session.execute(query).scalar_one()) >= MAX_LINKS:
        raise QuotaExceeded(f"Adapter {adapter_id} has {counted(known, 'link')} already. Delete some of them.")
    link = AdapterLink(
        id=new_id("lnk"),
        tenant_id=tenant_id,
        adapter_id=adapter_id,
        sha256=sha256,
        expires_at=func.clock_timestamp() + literal(timedelta(seconds=seconds)),
    )
    session.add(link)
    session.flush()
    session.refresh(link)
    audit.record(session, Action.LINK_CREATED, link.id)
    return link


def get_link(session: Session, tenant_id: str, adapter_id: str, link_id: str, *, lock: bool = False) -> AdapterLink:
    """Raises NotFound, also for another tenant's. ``lock`` holds the row until the transaction ends."""
    wanted = (AdapterLink.id == link_id, AdapterLink.adapter_id == adapter_id, AdapterLink.tenant_id == tenant_id)
    query = select(AdapterLink).where(*wanted)
    link = session.execute(query.with_for_update() if lock else query).scalar_one_or_none()
    if link is None:
        raise NotFound(f"Adapter {adapter_id} has no link {link_id}.")
    return link


def list_links(
    session: Session, tenant_id: str, adapter_id: str, *, after: str | None = None, limit: int = 20
) -> tuple[list[AdapterLink], bool]:
    """Newest first, by id, expired ones included; and whether there are more. Raises NotFound."""
    adapters.get_adapter(session, tenant_id, adapter_id)
    query = select(AdapterLink).where(AdapterLink.tenant_id == tenant_id, AdapterLink.adapter_id == adapter_id)
    return read_page(session, query, AdapterLink.id, after, limit)


def delete_link(session: Session, tenant_id: str, adapter_id: str, link_id: str) -> None:
    """At once and for good. Raises NotFound."""
    session.delete(get_link(session, tenant_id, adapter_id, link_id, lock=True))
    audit.record(session, Action.LINK_REVOKED, link_id)


def open_link(
    session: Session, sha256: str, *, views: int = 0, downloads: int = 0
) -> tuple[AdapterLink, Adapter] | None:
    """The link with this hash and its adapter, counting the use; None if it is unknown, revoked or expired.

    The transaction then acts for the tenant of the link, so the caller reads nothing else in it.
    """
    present(session, sha256)
    found = select(AdapterLink.id, AdapterLink.sha256, AdapterLink.tenant_id).where(AdapterLink.sha256 == sha256)
    row = session.execute(found).one_or_none()
    # The index found it by the hash, which reveals nothing about other links; this compares again in constant time.
    if row is None or not hmac.compare_digest(row.sha256, sha256):
        return None
    act_for(session, row.tenant_id)
    valid = (AdapterLink.id == row.id, AdapterLink.expires_at > func.clock_timestamp())
    counts = {
        "num_views": AdapterLink.num_views + views,
        "num_downloads": AdapterLink.num_downloads + downloads,
        "last_used_at": func.clock_timestamp(),
    }
    used = update(AdapterLink).where(*valid).values(counts).returning(AdapterLink)
    link = session.execute(used.execution_options(populate_existing=True)).scalar_one_or_none()
    if link is None:
        return None
    return link, adapters.get_adapter(session, link.tenant_id, link.adapter_id)
