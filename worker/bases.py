"""Prepares bases that have no card yet, one at a time: claim, run the program that prepares it, commit its answer."""

import functools
import logging
import threading

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from core.db import models
from core.db.models import CheckClaim
from core.db.session import open_engine
from core.domain.registration import RegistrationRequest, RegistrationResult
from core.model_folders import BUNDLED
from core.settings import Settings
from worker import drain
from worker.lease import Draining
from worker.program import ask_program, has_torch

PROGRAM = "worker.engine.bases.registration"

log = logging.getLogger("atelier.models")


def register_next(settings: Settings) -> bool:
    """Prepares the base that has waited longest; False if none waits, or this worker cannot or must not.

    Raises SQLAlchemyError: the lock goes with the connection, and the model waits for the next bell.
    """
    if drain.requested.is_set() or not has_torch():
        return False
    with _open(settings).connect() as connection:
        with Session(connection) as session, session.begin():
            claim = models.claim_check(session)
        if claim is None:
            return False
        try:
            _prepare(settings, connection, claim)
        except Draining:
            return False
        finally:
            _release(connection, claim)
    return True


@functools.cache
def _open(settings: Settings) -> Engine:
    """One per process; never opened before a fork."""
    return open_engine(settings.database_url, pool_size=1)


def _prepare(settings: Settings, connection: Connection, claim: CheckClaim) -> None:
    log.info("the model %s is prepared from %s", claim.model_id, claim.source.path or claim.source.hub_id)
    outcome = prepare(_order(settings, claim), drain.requested)
    with Session(connection) as session, session.begin():
        if outcome.info is not None:
            held = models.commit_check(session, claim, outcome.info, location=str(outcome.folder))
        else:
            held = models.reject_check(session, claim, outcome.refusal or "")
    if held:
        log.info("the model %s is %s", claim.model_id, outcome.refusal or "ready")
    else:
        log.warning("the model %s was registered again while it was prepared: this outcome is dropped", claim.model_id)


def _order(settings: Settings, claim: CheckClaim) -> RegistrationRequest:
    return RegistrationRequest(
        model_id=claim.model_id,
        source=claim.source,
        models_path=settings.models_path.resolve(),
        vocabulary_roots=(BUNDLED,),
    )


def _release(connection: Connection, claim: CheckClaim) -> None:
    if not connection.invalidated:
        with Session(connection) as session, session.begin():
            models.release_check(session, claim)


def prepare(order: RegistrationRequest, drain: threading.Event) -> RegistrationResult:
    """Raises Draining."""

    def check() -> None:
        if drain.is_set():
            raise Draining(order.model_id)

    return ask_program(PROGRAM, order, RegistrationResult, check, task="prepares bases")
