"""Claims the next job for this device slot and runs it. Called by the Celery task; the trainer does the work."""

import functools
import logging
import threading

from core.db import claims
from core.db.tables import Model
from core.domain.model import ModelInfo
from core.settings import Settings
from worker.attempt import Attempt
from worker.slot import Worker

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
        job = claims.claim_next(session, slot=worker.slot, lease_seconds=settings.lease_seconds)
        info = ModelInfo.model_validate(session.get_one(Model, job.model_id).info) if job else None
    worker.register(job.id if job else None)
    if job is None or info is None:
        return False
    Attempt(worker, job, info, _drain).run()
    worker.register(None)
    return True
