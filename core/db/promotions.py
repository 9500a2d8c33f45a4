"""Promotions: another step's adapter becomes its job's, once a worker has proved that its files load. Requested by
clients, claimed and committed by workers over leases.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.db import audit, leases, step_adapters
from core.db.adapters import ARTIFACT_PREFIX, find_of_job
from core.db.events import append_event
from core.db.jobs import get_job, lock_job
from core.db.leases import MAX_DEATHS, RowClaim
from core.db.tables import Job, JobArtifact, JobMetric, JobSample, Promotion
from core.domain.artifacts import ADAPTER_FORMATS, AdapterFormat, Artifact
from core.domain.audit import Action
from core.domain.errors import AdapterRejected, NotFound, WrongState
from core.domain.events import EventType
from core.domain.ids import new_id
from core.domain.model import Family
from core.domain.promotion import describe_promoted
from core.domain.proof import LoadProof
from core.domain.states import CheckStatus, JobStatus

_GIVEN_UP = f"It was started {MAX_DEATHS} times, and each time its worker died. Ask the operator to read the log."


@dataclass(frozen=True)
class PromotionClaim(RowClaim):
    """A worker's claim. ``files``: the step's."""

    job_id: str
    step: int
    model_id: str
    family: Family
    files: Mapping[AdapterFormat, Artifact]


def insert_promotion(session: Session, tenant_id: str, job_id: str, step: int) -> Promotion:
    """A repeated request is one. Of the step that is promoted already, it is done at once. Raises NotFound,
    WrongState."""
    job = lock_job(session, tenant_id, job_id)
    if job.status != JobStatus.SUCCEEDED or job.result is None:
        raise WrongState(f"Job {job_id} is {job.status}: a step can be promoted when it has succeeded.")
    kept = step_adapters.get_step(session, job_id, step)
    waiting = (Promotion.job_id == job_id, Promotion.status == Promotion.CHECKING)
    pending = session.execute(select(Promotion).where(*waiting)).scalar_one_or_none()
    if pending is not None and pending.step == step:
        return pending
    if pending is not None:
        raise WrongState(f"Step {pending.step} of job {job_id} is being promoted: wait for its end.")
    own = session.get(JobArtifact, (job_id, f"{ARTIFACT_PREFIX}kohya"))
    is_promoted = own is not None and own.key == kept.files["kohya"]["key"]
    promotion = Promotion(
        id=new_id("prm"), job_id=job_id, step=step, status=CheckStatus.DONE if is_promoted else CheckStatus.CHECKING
    )
    session.add(promotion)
    session.flush()
    session.refresh(promotion)
    if not is_promoted:
        audit.record(session, Action.JOB_PROMOTED, job_id)
    return promotion


def get_promotion(session: Session, tenant_id: str, job_id: str) -> Promotion:
    """The job's latest. Raises NotFound."""
    get_job(session, tenant_id, job_id)
    query = select(Promotion).where(Promotion.job_id == job_id).order_by(Promotion.id.desc()).limit(1)
    promotion = session.execute(query).scalar_one_or_none()
    if promotion is None:
        raise NotFound(f"No step of job {job_id} was promoted; POST /jobs/{job_id}/promote does it.")
    return promotion


def claim_promotion(session: Session, *, lease_seconds: float) -> PromotionClaim | None:
    row = leases.claim(session, Promotion, lease_seconds=lease_seconds)
    if row is None:
        return None
    job, kept = session.get_one(Job, row.job_id), step_adapters.get_step(session, row.job_id, row.step)
    files = {name: Artifact.model_validate(kept.files[name]) for name in ADAPTER_FORMATS}
    return PromotionClaim(row.id, row.attempt, job.id, row.step, job.model_id, job.outline["family"], files)


def commit_promotion(session: Session, claim: PromotionClaim, proofs: Mapping[AdapterFormat, LoadProof]) -> bool:
    """The job's artifacts, its result, its adapter and the event, in one transaction."""
    query = select(Job).where(Job.id == claim.job_id).with_for_update().execution_options(populate_existing=True)
    job = session.execute(query).scalar_one_or_none()
    if job is None or not leases.end(session, Promotion, claim, CheckStatus.DONE):
        return False
    result = _describe(session, job, claim, {name: proof.model_dump(mode="json") for name, proof in proofs.items()})
    session.execute(update(Job).where(Job.id == job.id).values(result=result))
    for name, file in claim.files.items():
        session.merge(JobArtifact(job_id=job.id, kind=f"{ARTIFACT_PREFIX}{name}", **file.model_dump()))
    adapter = find_of_job(session, job.id)
    if adapter is not None:
        adapter.files = {name: file.model_dump() for name, file in claim.files.items()}
        adapter.metrics, adapter.proofs = result["metrics"], result["proofs"]
    data = {"step": claim.step, "adapter_id": result.get("adapter_id")}
    append_event(session, job.id, EventType.PROMOTED, job.attempt, data)
    return True


def _describe(session: Session, job: Job, claim: PromotionClaim, proofs: dict[str, Any]) -> dict[str, Any]:
    metric = session.get(JobMetric, (job.id, claim.step))
    return describe_promoted(
        job.result or {},
        step=claim.step,
        files={f"{ARTIFACT_PREFIX}{name}": file.model_dump(exclude={"key"}) for name, file in claim.files.items()},
        proofs=proofs,
        loss=None if metric is None else metric.loss,
        validation_loss=None if metric is None else metric.validation_loss,
        has_samples=session.get(JobSample, (job.id, claim.step)) is not None,
    )


def fail_promotion(session: Session, claim: PromotionClaim, detail: str) -> bool:
    error = AdapterRejected(detail).describe()
    return leases.end(session, Promotion, claim, CheckStatus.FAILED, error=error)


def expire_promotions(session: Session) -> list[Promotion]:
    """Takes back every promotion whose worker lost its lease; fails one at its last death. For the steward."""
    given_up = {"status": CheckStatus.FAILED, "error": AdapterRejected(_GIVEN_UP).describe()}
    return leases.take_back(session, Promotion, given_up)
