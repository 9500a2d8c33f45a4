"""Samples that clients request of a running job. Workers find them by job_outputs.py and answer them by
job_output_claims.py."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db import audit
from core.db.jobs import get_job, lock_job
from core.db.tables import SampleRequest
from core.domain.audit import Action
from core.domain.errors import NotFound, QuotaExceeded, WrongState
from core.domain.ids import new_id
from core.domain.states import JobStatus

MAX_WAITING = 5
"""Of one job: they hold its training up."""


def insert_request(session: Session, tenant_id: str, job_id: str, prompts: Sequence[str], seed: int) -> SampleRequest:
    """Raises NotFound, WrongState, QuotaExceeded."""
    job = lock_job(session, tenant_id, job_id)
    if job.status != JobStatus.RUNNING:
        raise WrongState(f"Job {job_id} is {job.status}: samples can be requested while it is running.")
    waits = (SampleRequest.job_id == job_id, SampleRequest.status == "waiting")
    if session.execute(select(func.count(SampleRequest.id)).where(*waits)).scalar_one() >= MAX_WAITING:
        raise QuotaExceeded(f"{MAX_WAITING} requests for samples of this job are waiting. Wait for one of them.")
    request = SampleRequest(
        id=new_id("smp"), job_id=job_id, status="waiting", prompts=list(prompts), seed=seed, images=[]
    )
    session.add(request)
    session.flush()
    session.refresh(request)
    audit.record(session, Action.SAMPLES_REQUESTED, job_id)
    return request


def list_requests(session: Session, tenant_id: str, job_id: str) -> Sequence[SampleRequest]:
    """Oldest first. Raises NotFound."""
    get_job(session, tenant_id, job_id)
    query = select(SampleRequest).where(SampleRequest.job_id == job_id).order_by(SampleRequest.id)
    return session.execute(query).scalars().all()


def get_request(session: Session, tenant_id: str, job_id: str, request_id: str) -> SampleRequest:
    """Raises NotFound."""
    get_job(session, tenant_id, job_id)
    query = select(SampleRequest).where(SampleRequest.job_id == job_id, SampleRequest.id == request_id)
    request = session.execute(query).scalar_one_or_none()
    if request is None:
        raise NotFound(f"Job {job_id} has no request for samples {request_id}.")
    return request
