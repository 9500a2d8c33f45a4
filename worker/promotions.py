"""Promotes steps of finished jobs, one request at a time: a program proves that the step's files load."""

import contextlib
import logging
from collections.abc import Callable

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from core.db import promotions
from core.db.promotions import PromotionClaim
from core.db.tables import Promotion
from core.domain.adapter_import import BYTES_PER_FILE_BYTE, PROGRAM_BYTES
from core.domain.artifacts import job_prefix
from core.domain.promotion import ProofAnswer, ProofRequest
from core.model_folders import BaseMissing, find_model_folder
from core.queue import progress_channel
from core.settings import Settings
from core.storage import Storage, StorageError
from worker.adapter_inputs import InputLost, fetch_input
from worker.consumer import open_consumer
from worker.program import ask_program, has_torch
from worker.scratch import open_scratch

PROGRAM = "worker.engine.adapter_files.proving"
BELL_SECONDS = 2.0

log = logging.getLogger("atelier.promotions")


def promote_next(settings: Settings) -> bool:
    """Answers the request that has waited longest; False if none waits, or this worker cannot or must not.

    Raises failures outside of the files: SQLAlchemyError, StorageError, OSError.
    """
    return has_torch() and open_consumer(Promoting, settings).run_next()


class Promoting:
    """A ``Check`` of a step's files. It writes none."""

    table = Promotion
    outages = (StorageError, OSError)
    obstacles = (BaseMissing,)

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings, self._storage = settings, storage

    def claim(self, session: Session, *, lease_seconds: float) -> PromotionClaim | None:
        return promotions.claim_promotion(session, lease_seconds=lease_seconds)

    def run(self, claim: PromotionClaim, check_lease: Callable[[], None]) -> ProofAnswer:
        model_folder = find_model_folder(self._settings, claim.model_id)
        with open_scratch() as scratch:
            try:
                files = {
                    name: fetch_input(self._storage, file, scratch / f"{name}.safetensors")
                    for name, file in claim.files.items()
                }
            except InputLost as error:
                return ProofAnswer(refusal=f"A file of step {claim.step} {error}: promote another step.")
            order = ProofRequest(
                family=claim.family,
                model_folder=model_folder.resolve(),
                files=files,
                memory_bytes=PROGRAM_BYTES + BYTES_PER_FILE_BYTE * sum(file.size for file in claim.files.values()),
            )
            return ask_program(PROGRAM, order, ProofAnswer, check_lease, task="proves adapters")

    def commit(self, session: Session, claim: PromotionClaim, result: ProofAnswer) -> bool:
        if result.refusal is not None:
            return promotions.fail_promotion(session, claim, result.refusal)
        return promotions.commit_promotion(session, claim, result.proofs)

    def finish(self, claim: PromotionClaim, result: ProofAnswer) -> None:
        log.info("%s of %s is %s", claim.id, claim.job_id, f"refused: {result.refusal}" if result.refusal else "done")
        with (
            contextlib.suppress(RedisError),
            Redis.from_url(
                self._settings.redis_url, socket_timeout=BELL_SECONDS, socket_connect_timeout=BELL_SECONDS
            ) as bell,
        ):
            bell.publish(progress_channel(claim.job_id), "")

    def prefix_of(self, claim: PromotionClaim) -> str:
        return job_prefix(claim.job_id)

    def list_references(self, session: Session, row_id: str) -> frozenset[str] | None:
        """None: it has stored nothing that would have to be removed."""
        return None
