"""Claims the next job for this device slot and runs it. Called by the Celery task; the trainer does the work."""

import functools
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from core.db import claims
from core.db.claims import Claim
from core.db.tables import Job, JobCheckpoint, Model
from core.domain.model import ModelInfo
from core.domain.plan import TrainPlan
from core.settings import Settings
from worker.attempt import Attempt
from worker.device.slot import Worker
from worker.workdirs import remove_finished, tidy_shared_cache

log = logging.getLogger("atelier.runner")
_drain = threading.Event()


def request_drain() -> None:
    """Asks the running job to leave a checkpoint and go back to the queue, uncharged. Safe in a signal handler."""
    _drain.set()


@functools.cache
def open_worker(settings: Settings) -> Worker:
    """One per process: connections and the trainer live as long as it does. Never opened before a fork."""
    return Worker(settings)


def run_next(settings: Settings) -> bool:
    """Runs the first due job; False when there is none, or this worker is on its way out."""
    if _drain.is_set():
        return False
    worker = open_worker(settings)
    with worker.sessions.begin() as session:
        job = claims.claim_next(
            session,
            slot=worker.slot,
            lease_seconds=settings.lease_seconds,
            running_limit=settings.quota_running_jobs,
        )
        task = _read_task(session, job) if job else None
    _register(worker, job)
    if job is None or task is None:
        remove_finished(worker)
        tidy_shared_cache(settings)
        return False
    attempt = _open_attempt(worker, job, task)
    if attempt is not None:
        attempt.run()
        tidy_shared_cache(settings)
    _register(worker, None)
    return True


def _register(worker: Worker, job: Job | None) -> None:
    """Bookkeeping: a database that goes away right now is no reason to let go of a job that was just claimed."""
    with suppress(DBAPIError, PoolTimeoutError):
        worker.register(job.id if job else None)


@dataclass(frozen=True)
class Task:
    """What a job is worked from, read with its claim: a database that goes away later does not end the attempt.

    ``checkpoints`` (the newest first) and ``worked_seconds`` are of earlier attempts.
    """

    plan: dict[str, Any]
    card: dict[str, Any] | None
    checkpoints: Sequence[JobCheckpoint]
    worked_seconds: float


def _read_task(session: Session, job: Job) -> Task:
    card = session.get_one(Model, job.model_id).info
    checkpoints = claims.newest_checkpoints(session, job.id)
    return Task(job.plan, card, checkpoints, claims.count_seconds_worked(session, job.id))


def _open_attempt(worker: Worker, job: Job, task: Task) -> Attempt | None:
    """None, with the job given back, when another version of the service wrote what this one cannot read."""
    try:
        plan, model = TrainPlan.model_validate(task.plan), ModelInfo.model_validate(task.card)
    except ValidationError:
        log.exception("job %s cannot be read by this version of the worker", job.id)
        with worker.sessions.begin() as session:
            claims.give_back(session, Claim(job.id, job.attempt), "its plan is of another version of the service")
        return None
    return Attempt(worker, job, plan, model, _drain, checkpoints=task.checkpoints, worked_seconds=task.worked_seconds)
