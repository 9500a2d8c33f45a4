"""Publications of adapters on the Hub: requested by clients, claimed and ended by workers over leases.py.

The share of a client's token is erased with the end of its publication, whatever the end is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db import adapters, audit, leases
from core.db.leases import MAX_DEATHS, RowClaim
from core.db.paging import read_page
from core.db.tables import Adapter, Job, JobSample, Publication
from core.domain.artifacts import Artifact
from core.domain.audit import Action
from core.domain.counts import counted
from core.domain.errors import NotFound, PublicationFailed, QuotaExceeded, WrongState
from core.domain.publication import MAX_IMAGES, PublicationSpec, PublicationStatus
from core.domain.states import AdapterStatus

MAX_WAITING = 20
"""Of one tenant."""
_GIVEN_UP = f"It was started {MAX_DEATHS} times, and each time its worker died. Ask the operator to read the log."


@dataclass(frozen=True)
class Picture:
    """A sample image of the adapter."""

    prompt: str
    file: Artifact


@dataclass(frozen=True)
class PublicationClaim(RowClaim):
    """A worker's claim. ``adapter``: its row, read and detached; ``outline``: of the job's plan, {} if it has no job.
    ``token_share``: None for the operator's token."""

    spec: PublicationSpec
    adapter: Adapter
    outline: dict[str, Any]
    pictures: tuple[Picture, ...]
    token_share: bytes | None = field(repr=False)


def insert_publication(
    session: Session,
    tenant_id: str,
    adapter_id: str,
    spec: PublicationSpec,
    *,
    publication_id: str,
    token_share: bytes | None,
) -> Publication:
    """The caller has locked the tenant's limits. Raises NotFound, WrongState, QuotaExceeded."""
    adapter = adapters.get_adapter(session, tenant_id, adapter_id)
    if adapter.status != AdapterStatus.READY:
        raise WrongState(f"Adapter {adapter_id} is {adapter.status}: only ready adapters can be published.")
    mine = (Publication.tenant_id == tenant_id, Publication.status == PublicationStatus.PUBLISHING)
    waiting = list(session.execute(select(Publication).where(*mine)).scalars())
    for row in waiting:
        if row.spec["repo_id"] == spec.repo_id:
            raise WrongState(f"{row.id} is being published to {spec.repo_id} already: wait for its end.")
    if len(waiting) >= MAX_WAITING:
        raise QuotaExceeded(f"{counted(len(waiting), 'publication')} are waiting already. Wait for one of them.")
    row = Publication(
        id=publication_id,
        tenant_id=tenant_id,
        adapter_id=adapter_id,
        spec=spec.model_dump(mode="json"),
        token_share=token_share,
        status=PublicationStatus.PUBLISHING,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    audit.record(session, Action.ADAPTER_PUBLISHED, row.id)
    return row


def get_publication(session: Session, tenant_id: str, adapter_id: str, publication_id: str) -> Publication:
    """Raises NotFound, also for another tenant's."""
    wanted = (Publication.id == publication_id, Publication.adapter_id == adapter_id)
    query = select(Publication).where(*wanted, Publication.tenant_id == tenant_id)
    row = session.execute(query).scalar_one_or_none()
    if row is None:
        raise NotFound(f"Adapter {adapter_id} has no publication {publication_id}.")
    return row


def list_publications(
    session: Session, tenant_id: str, adapter_id: str, *, after: str | None = None, limit: int = 20
) -> tuple[list[Publication], bool]:
    """Newest first, by id; and whether there are more. Raises NotFound."""
    adapters.get_adapter(session, tenant_id, adapter_id)
    query = select(Publication).where(Publication.tenant_id == tenant_id, Publication.adapter_id == adapter_id)
    return read_page(session, query, Publication.id, after, limit)


def claim_publication(session: Session, *, lease_seconds: float) -> PublicationClaim | None:
    row = leases.claim(session, Publication, lease_seconds=lease_seconds)
    if row is None:
        return None
    adapter = session.get_one(Adapter, row.adapter_id)
    spec = PublicationSpec.model_validate(row.spec)
    job = None if adapter.job_id is None else session.get_one(Job, adapter.job_id)
    pictures = () if job is None else _find_pictures(session, job.id, adapter)
    claim = PublicationClaim(
        row.id, row.attempt, spec, adapter, dict(job.outline) if job else {}, pictures, row.token_share
    )
    session.flush()
    session.expunge(adapter)
    return claim


def _find_pictures(session: Session, job_id: str, adapter: Adapter) -> tuple[Picture, ...]:
    """The images of the adapter's own step, or of the last one that has any; step 0 shows the base alone."""
    query = select(JobSample).where(JobSample.job_id == job_id, JobSample.step > 0).order_by(JobSample.step.desc())
    samples: Sequence[JobSample] = session.execute(query).scalars().all()
    step = (adapter.metrics or {}).get("step")
    chosen = next((row for row in samples if row.step == step), samples[0] if samples else None)
    images = [] if chosen is None else chosen.images[:MAX_IMAGES]
    return tuple(
        Picture(image["prompt"], Artifact(key=image["key"], sha256=image["sha256"], size=image["size"]))
        for image in images
    )


def commit_publication(session: Session, claim: PublicationClaim, url: str, commit: str) -> bool:
    return _end(session, claim, PublicationStatus.PUBLISHED, url=url, commit=commit)


def fail_publication(session: Session, claim: PublicationClaim, detail: str) -> bool:
    return _end(session, claim, PublicationStatus.FAILED, error=PublicationFailed(detail).describe())


def _end(session: Session, claim: PublicationClaim, status: PublicationStatus, **values: Any) -> bool:
    return leases.end(session, Publication, claim, status, token_share=None, ended_at=func.clock_timestamp(), **values)


def expire_publications(session: Session) -> list[Publication]:
    """Takes back every publication whose worker lost its lease; fails one at its last death. For the steward."""
    given_up = {
        "status": PublicationStatus.FAILED,
        "error": PublicationFailed(_GIVEN_UP).describe(),
        "token_share": None,
        "ended_at": func.clock_timestamp(),
    }
    return leases.take_back(session, Publication, given_up)
