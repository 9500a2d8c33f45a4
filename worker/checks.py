"""Checks whether adapters fit a base and one another, one request at a time: a program reads the files."""

import logging
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.orm import Session

from core.db import adapter_checks
from core.db.adapter_checks import CheckClaim
from core.db.tables import AdapterCheck
from core.domain.adapter_check import CheckAnswer, CheckInput, CheckRequest
from core.domain.adapter_import import BYTES_PER_FILE_BYTE, PROGRAM_BYTES
from core.domain.artifacts import adapter_prefix
from core.domain.counts import listed
from core.model_folders import BaseMissing, find_model_folder
from core.settings import Settings
from core.storage import Storage, StorageError
from worker.adapter_inputs import InputLost, fetch_input
from worker.consumer import open_consumer
from worker.program import ask_program, has_torch
from worker.scratch import open_scratch

PROGRAM = "worker.engine.adapter_files.merging.checking"

log = logging.getLogger("atelier.adapters")


def check_next(settings: Settings) -> bool:
    """Answers the check that has waited longest; False if none waits, or this worker cannot or must not.

    Raises failures outside of the files: SQLAlchemyError, StorageError, OSError.
    """
    return has_torch() and open_consumer(AdapterChecking, settings).run_next()


class AdapterChecking:
    """A ``Check`` of adapters that are there already. It writes no files."""

    table = AdapterCheck
    outages = (StorageError, OSError)
    obstacles = (BaseMissing,)

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings, self._storage = settings, storage

    def claim(self, session: Session, *, lease_seconds: float) -> CheckClaim | None:
        return adapter_checks.claim_check(session, lease_seconds=lease_seconds)

    def run(self, claim: CheckClaim, check_lease: Callable[[], None]) -> CheckAnswer:
        if claim.missing:
            return CheckAnswer(refusal=f"{listed(claim.missing)} was deleted before the check: leave it out.")
        model_folder = find_model_folder(self._settings, claim.model_id)
        with open_scratch() as scratch:
            try:
                inputs = self._fetch(claim, scratch, check_lease)
            except InputLost as error:
                return CheckAnswer(refusal=str(error))
            order = CheckRequest(
                family=claim.family,
                model=claim.model_id,
                model_folder=model_folder.resolve(),
                inputs=inputs,
                memory_bytes=PROGRAM_BYTES + BYTES_PER_FILE_BYTE * sum(one.file.size for one in claim.files),
            )
            return ask_program(PROGRAM, order, CheckAnswer, check_lease, task="compares adapters")

    def commit(self, session: Session, claim: CheckClaim, result: CheckAnswer) -> bool:
        if result.result is None:
            return adapter_checks.fail_check(session, claim, result.refusal or "")
        return adapter_checks.commit_check(session, claim, result.result)

    def finish(self, claim: CheckClaim, result: CheckAnswer) -> None:
        log.info("%s is %s", claim.id, f"refused: {result.refusal}" if result.refusal else "done")

    def prefix_of(self, claim: CheckClaim) -> str:
        return adapter_prefix(claim.id)

    def list_references(self, session: Session, row_id: str) -> frozenset[str] | None:
        """A check stores nothing."""
        return frozenset()

    def _fetch(self, claim: CheckClaim, scratch: Path, check_lease: Callable[[], None]) -> tuple[CheckInput, ...]:
        inputs = []
        for number, one in enumerate(claim.files):
            check_lease()
            try:
                file = fetch_input(self._storage, one.file, scratch / f"{number}.safetensors")
            except InputLost as error:
                raise InputLost(f"The file of {one.id} {error}: leave it out.") from None
            same_base = one.model_sha256 == claim.model_sha256
            inputs.append(CheckInput(id=one.id, name=one.name, file=file, same_base=same_base))
        return tuple(inputs)
