"""Claims the next job for this device slot and runs it. Called by the Celery task; the trainer does the work."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from core.db import job_claims
from core.db.job_claims import Claim
from core.db.tables import Job, JobCheckpoint, Model
from core.domain.model import ModelInfo
from core.domain.plan import TrainPlan
from core.settings import Settings
from worker import drain
from worker.device.slot import DeviceSlot, open_slot
from worker.jobs.attempt import Attempt
from worker.jobs.workdirs import remove_finished, tidy_cache

log = logging.getLogger("atelier.runner")


def run_next(settings: Settings) -> bool:
    """Runs the first due job; False if there is none, or this worker is shutting down."""
    if drain.requested.is_set():
        return False
    slot = open_slot(settings)
    with slot.sessions.begin() as session:
        job = job_claims.claim_next(
            session,
            slot=slot.name,
            lease_seconds=settings.lease_seconds,
            running_limit=settings.quota_running_jobs,
            warm=slot.warm_models,
        )
        claimed = _read_claimed(session, job) if job else None
    _register(slot, job)
    if job is None or claimed is None:
        remove_finished(slot)
        tidy_cache(settings)
        return False
    attempt = _open_attempt(slot, job, claimed)
    if attempt is not None:
        attempt.run()
        tidy_cache(settings)
    _register(slot, None)
    return True


def _register(slot: DeviceSlot, job: Job | None) -> None:
    slot.job_id = job.id if job else None
    slot.try_to_register()


@dataclass(frozen=True)
class ClaimedJob:
    """The data for working on a job, read with its claim: a later database outage does not end the attempt.

    ``checkpoints`` (newest first) and ``worked_seconds`` are from earlier attempts.
    """

    plan: dict[str, Any]
    card: dict[str, Any] | None
    checkpoints: Sequence[JobCheckpoint]
    worked_seconds: float


def _read_claimed(session: Session, job: Job) -> ClaimedJob:
    card = session.get_one(Model, job.model_id).info
    checkpoints = job_claims.newest_checkpoints(session, job.id)
    return ClaimedJob(job.plan, card, checkpoints, job_claims.count_seconds_worked(session, job.id))


def _open_attempt(slot: DeviceSlot, job: Job, claimed: ClaimedJob) -> Attempt | None:
    """None, and the job is released, if another version of the service wrote data that this one cannot read."""
    try:
        plan, model = TrainPlan.model_validate(claimed.plan), ModelInfo.model_validate(claimed.card)
    except ValidationError:
        log.exception("job %s cannot be read by this version of the worker", job.id)
        with slot.sessions.begin() as session:
            job_claims.retry(session, Claim(job.id, job.attempt), "its plan is of another version of the service")
        return None
    return Attempt(
        slot,
        job,
        plan,
        model,
        drain.requested,
        checkpoints=claimed.checkpoints,
        worked_seconds=claimed.worked_seconds,
    )
