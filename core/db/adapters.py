"""Adapters, as their owners see them: trained or imported, found, changed and deleted. The checks of imports are in
adapter_claims.py."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, or_, select
from sqlalchemy.orm import Session

from core.db import audit
from core.db.own_rows import get_own
from core.db.paging import read_page
from core.db.tables import Adapter, Dataset, Job
from core.domain.artifacts import Artifact
from core.domain.audit import Action
from core.domain.errors import NotFound, WrongState
from core.domain.ids import new_id
from core.domain.model import ModelInfo
from core.domain.states import TERMINAL, AdapterStatus

ARTIFACT_PREFIX = "adapter-"
"""The prefix of a job's artifacts that are its adapter; the format follows."""


def insert_of_job(
    session: Session, job: Job, result: Mapping[str, Any], artifacts: Mapping[str, Artifact]
) -> str | None:
    """The finished job's adapter, within the transaction of its end; its id, or None if there is no file."""
    files = {
        kind.removeprefix(ARTIFACT_PREFIX): artifact.model_dump()
        for kind, artifact in artifacts.items()
        if kind.startswith(ARTIFACT_PREFIX)
    }
    if not files:
        return None
    plan = job.outline
    taken = {
        "name": plan["name"],
        "trigger": plan["trigger"],
        "model_sha256": plan["model_sha256"],
        "family": plan["family"],
        "type": plan["adapter_type"],
        "rank": plan["rank"],
    }
    adapter = Adapter(
        id=new_id("ad"),
        tenant_id=job.tenant_id,
        job_id=job.id,
        source="job",
        status=AdapterStatus.READY,
        model_id=job.model_id,
        files=files,
        metrics=result.get("metrics"),
        proofs=result.get("proofs", {}),
        **taken,
    )
    session.add(adapter)
    session.flush()
    return adapter.id


def insert_import(
    session: Session,
    *,
    adapter_id: str,
    tenant_id: str,
    model: ModelInfo,
    upload: Artifact,
    name: str,
    trigger: str,
    tags: Sequence[str],
) -> Adapter:
    """To be checked by a worker. The caller gives the id, because the file is already stored under it."""
    adapter = Adapter(
        id=adapter_id,
        tenant_id=tenant_id,
        source="import",
        status=AdapterStatus.CHECKING,
        name=name,
        trigger=trigger,
        tags=list(tags),
        model_id=model.id,
        model_sha256=model.sha256,
        family=model.family,
        upload=upload.model_dump(),
    )
    session.add(adapter)
    session.flush()
    session.refresh(adapter)
    audit.record(session, Action.ADAPTER_IMPORTED, adapter_id)
    return adapter


def get_adapter_of_job(session: Session, tenant_id: str, job_id: str) -> Adapter:
    """Raises NotFound if the job has made none, or it was deleted."""
    found = session.execute(select(Adapter).where(Adapter.tenant_id == tenant_id, Adapter.job_id == job_id)).scalar()
    if found is None:
        raise NotFound(f"The job {job_id} has no adapter here: it made none, or the adapter was deleted.")
    return found


def get_adapter(session: Session, tenant_id: str, adapter_id: str, *, lock: bool = False) -> Adapter:
    """Raises NotFound, also for another tenant's. ``lock`` holds the row until the transaction ends."""
    return get_own(session, Adapter, "adapter", tenant_id, adapter_id, lock=lock)


def list_adapters(
    session: Session,
    tenant_id: str,
    *,
    model: str | None = None,
    trigger: str | None = None,
    tag: str | None = None,
    words: str | None = None,
    like: str | None = None,
    after: str | None = None,
    limit: int = 20,
) -> tuple[list[Adapter], bool]:
    """Newest first, by id; and whether there are more. Each of the ``words`` must be in the name, description, notes,
    trigger or tags, ignoring case. ``like``: the id of an adapter; see ``_is_like``. Raises NotFound for that."""
    query = select(Adapter).where(Adapter.tenant_id == tenant_id)
    if model is not None:
        query = query.where(Adapter.model_id == model)
    if trigger is not None:
        query = query.where(Adapter.trigger == trigger)
    if tag is not None:
        query = query.where(Adapter.tags.contains([tag]))
    texts = (Adapter.name, Adapter.description, Adapter.notes, Adapter.trigger, cast(Adapter.tags, Text))
    for word in (words or "").split():
        query = query.where(or_(*(text.icontains(word, autoescape=True) for text in texts)))
    if like is not None:
        query = query.where(*_is_like(session, get_adapter(session, tenant_id, like)))
    return read_page(session, query, Adapter.id, after, limit)


def _is_like(session: Session, one: Adapter) -> tuple[ColumnElement[bool], ...]:
    """Another adapter for exactly the same base, with the same trigger, a common tag, a job on the same dataset or a
    revision of it, or one of the two merged from the other. A filter and no ranking: pages stay in the order of ids."""
    alike = [Adapter.tags.contains([tag]) for tag in one.tags]
    if one.trigger:
        alike.append(Adapter.trigger == one.trigger)
    if one.job_id is not None:
        alike.append(Adapter.job_id.in_(select(Job.id).where(Job.dataset_id.in_(_find_versions(session, one)))))
    if one.merge is not None:
        alike.append(Adapter.id.in_([source["id"] for source in one.merge["sources"]]))
    alike.append(Adapter.merge["sources"].contains([{"id": one.id}]))
    return Adapter.id != one.id, Adapter.model_sha256 == one.model_sha256, or_(*alike)


def _find_versions(session: Session, one: Adapter) -> list[str]:
    """The dataset of the adapter's job, what it was revised from, and its direct revisions."""
    own = select(Job.dataset_id).where(Job.id == one.job_id).scalar_subquery()
    parent = select(Dataset.parent_id).where(Dataset.id == own).scalar_subquery()
    related = or_(Dataset.id == own, Dataset.id == parent, Dataset.parent_id == own)
    mine = Dataset.tenant_id == one.tenant_id
    return list(session.execute(select(Dataset.id).where(mine, related)).scalars())


def change_adapter(session: Session, tenant_id: str, adapter_id: str, changes: Mapping[str, Any]) -> Adapter:
    """``changes``: of its columns that say something about it. The files stay."""
    adapter = get_adapter(session, tenant_id, adapter_id, lock=True)
    for name, value in changes.items():
        setattr(adapter, name, value)
    if session.is_modified(adapter):
        session.flush()
        audit.record(session, Action.ADAPTER_CHANGED, adapter_id)
    return adapter


def delete_adapter(session: Session, tenant_id: str, adapter_id: str) -> None:
    """An import's row; the caller then deletes its prefix in storage. Raises NotFound, WrongState."""
    adapter = get_adapter(session, tenant_id, adapter_id, lock=True)
    if adapter.job_id is not None:
        raise WrongState(f"Adapter {adapter_id} belongs to {adapter.job_id}: delete that job instead.")
    refuse_if_needed(session, adapter)
    session.delete(adapter)
    audit.record(session, Action.ADAPTER_DELETED, adapter_id)


def find_of_job(session: Session, job_id: str) -> Adapter | None:
    """Locked until the transaction ends."""
    query = select(Adapter).where(Adapter.job_id == job_id).with_for_update()
    return session.execute(query).scalar_one_or_none()


def refuse_if_needed(session: Session, adapter: Adapter) -> None:
    """Raises WrongState while an unfinished job starts from it, or a merge that is not made yet needs it. The caller
    holds its row."""
    unfinished = (Job.tenant_id == adapter.tenant_id, Job.status.not_in(TERMINAL))
    users = select(Job.id).where(*unfinished, Job.spec["init_adapter"].astext == adapter.id)
    user = session.execute(users.limit(1)).scalar_one_or_none()
    if user is not None:
        raise WrongState(f"Adapter {adapter.id} is in use: {user} starts from it. Wait for its end, or cancel it.")
    if (merge := find_waiting_merge(session, adapter)) is not None:
        raise WrongState(f"Adapter {adapter.id} is in use: {merge} is being made from it. Wait until it is ready.")


def find_waiting_merge(session: Session, adapter: Adapter) -> str | None:
    """A merge that still needs the adapter's file."""
    waiting = (Adapter.tenant_id == adapter.tenant_id, Adapter.status == AdapterStatus.CHECKING)
    names_it = Adapter.merge["sources"].contains([{"id": adapter.id}])
    return session.execute(select(Adapter.id).where(*waiting, names_it).limit(1)).scalar_one_or_none()


def keep_for_job(session: Session, tenant_id: str, adapter_id: str) -> None:
    """Prevents the deletion of an adapter until the end of the transaction in which a job starts from it.

    Raises NotFound.
    """
    query = select(Adapter.id).where(Adapter.id == adapter_id, Adapter.tenant_id == tenant_id)
    if session.execute(query.with_for_update(read=True)).first() is None:
        raise NotFound(f"There is no adapter {adapter_id}.")
