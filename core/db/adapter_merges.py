"""Merges, as their owners request them. Workers make them as they check imports: adapter_claims.py."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db import audit
from core.db.tables import Adapter
from core.domain.adapter_merge import Merge
from core.domain.audit import Action
from core.domain.ids import new_id
from core.domain.model import Family, ModelInfo
from core.domain.states import AdapterStatus


def keep_sources(session: Session, tenant_id: str, adapter_ids: Sequence[str]) -> dict[str, Adapter]:
    """Those that there are, by id. None of them is deleted until the transaction ends; after it, the merge itself
    prevents that (``adapters.refuse_if_needed``)."""
    query = select(Adapter).where(Adapter.id.in_(adapter_ids), Adapter.tenant_id == tenant_id).order_by(Adapter.id)
    rows = session.execute(query.with_for_update(read=True).execution_options(populate_existing=True)).scalars()
    return {row.id: row for row in rows}


def insert_merge(
    session: Session,
    sources: Sequence[Adapter],
    merge: Merge,
    *,
    name: str,
    trigger: str,
    tags: Sequence[str],
    action: Action,
) -> Adapter:
    """To be made by a worker. A licence that all sources have is its licence."""
    like, licenses = sources[0], {row.license for row in sources}
    base = (like.model_id, like.model_sha256, like.family)
    made = _insert(session, like.tenant_id, base, merge, name=name, trigger=trigger, tags=tags, action=action)
    made.license = licenses.pop() if len(licenses) == 1 else None
    return made


def insert_extraction(
    session: Session,
    tenant_id: str,
    base: ModelInfo,
    merge: Merge,
    *,
    name: str,
    trigger: str,
    tags: Sequence[str],
) -> Adapter:
    """To be made by a worker from two bases."""
    place = (base.id, base.sha256, base.family)
    action = Action.ADAPTER_EXTRACTED
    return _insert(session, tenant_id, place, merge, name=name, trigger=trigger, tags=tags, action=action)


def _insert(
    session: Session,
    tenant_id: str,
    base: tuple[str, str, Family],
    merge: Merge,
    *,
    name: str,
    trigger: str,
    tags: Sequence[str],
    action: Action,
) -> Adapter:
    model_id, model_sha256, family = base
    adapter = Adapter(
        id=new_id("ad"),
        tenant_id=tenant_id,
        source="merge",
        status=AdapterStatus.CHECKING,
        name=name,
        trigger=trigger,
        tags=list(tags),
        model_id=model_id,
        model_sha256=model_sha256,
        family=family,
        merge=merge.model_dump(mode="json"),
    )
    session.add(adapter)
    session.flush()
    session.refresh(adapter)
    audit.record(session, action, adapter.id)
    return adapter
