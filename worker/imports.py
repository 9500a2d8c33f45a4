"""Checks imported adapters and makes merges, one at a time: a program reads the files and writes the adapter's."""

import logging
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.orm import Session

from core.db import adapter_claims
from core.db.adapter_claims import AdapterClaim, ImportClaim, MergeClaim
from core.db.references import list_adapter_references
from core.db.tables import Adapter
from core.domain.adapter_import import BYTES_PER_FILE_BYTE, PROGRAM_BYTES, ImportRequest, ImportResult
from core.domain.adapter_merge import MergeResult
from core.domain.artifacts import AdapterFormat, Artifact, adapter_key, adapter_prefix
from core.model_folders import BaseMissing, find_model_folder
from core.settings import Settings
from core.storage import Storage, StorageError
from worker.adapter_inputs import InputLost, fetch_input
from worker.consumer import open_consumer
from worker.merges import make_merge
from worker.program import ask_program, has_torch
from worker.scratch import open_scratch

PROGRAM = "worker.engine.adapter_files.importing"

AnyClaim = ImportClaim | MergeClaim
CheckedImport = tuple[ImportResult, dict[AdapterFormat, Artifact]]

log = logging.getLogger("atelier.adapters")


def import_next(settings: Settings) -> bool:
    """Checks or makes the adapter that has waited longest; False if none waits, or this worker cannot or must not.

    Raises failures outside of the files: SQLAlchemyError, StorageError, OSError.
    """
    return has_torch() and open_consumer(AdapterImport, settings).run_next()


class AdapterImport:
    """A ``Check`` of imported adapters, and of those that are made from others."""

    table = Adapter
    outages = (StorageError, OSError)
    obstacles = (BaseMissing,)  # later uploads may be for another base

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings, self._storage = settings, storage

    def claim(self, session: Session, *, lease_seconds: float) -> AnyClaim | None:
        return adapter_claims.claim_import(session, lease_seconds=lease_seconds)

    def run(self, claim: AnyClaim, check_lease: Callable[[], None]) -> CheckedImport:
        with open_scratch() as scratch:
            folder = scratch / "written"
            folder.mkdir()
            result: ImportResult
            if isinstance(claim, MergeClaim):
                result = make_merge(self._settings, self._storage, claim, scratch, folder, check_lease)
            else:
                result = self._read(claim, scratch, folder, check_lease)
            return result, {name: self._upload(claim, path) for name, path in result.files.items()}

    def commit(self, session: Session, claim: AnyClaim, result: CheckedImport) -> bool:
        outcome, files = result
        if outcome.findings is None:
            return adapter_claims.reject_import(session, claim, outcome.refusal or "")
        if isinstance(claim, MergeClaim) and isinstance(outcome, MergeResult):
            return adapter_claims.commit_merge(session, claim, outcome.findings, files, outcome.error)
        return adapter_claims.commit_import(session, claim, outcome.findings, files)

    def finish(self, claim: AnyClaim, result: CheckedImport) -> None:
        refusal = result[0].refusal
        log.info("%s is %s", claim.id, f"rejected: {refusal}" if refusal else "ready")
        if isinstance(claim, ImportClaim):
            self._storage.delete(claim.upload.key)

    def prefix_of(self, claim: AnyClaim) -> str:
        return adapter_prefix(claim.id)

    def list_references(self, session: Session, row_id: str) -> frozenset[str] | None:
        return list_adapter_references(session, row_id)

    def _read(self, claim: ImportClaim, scratch: Path, folder: Path, check_lease: Callable[[], None]) -> ImportResult:
        model_folder = find_model_folder(self._settings, claim.model_id)
        try:
            file = fetch_input(self._storage, claim.upload, scratch / "upload.safetensors")
        except InputLost as error:
            return ImportResult(refusal=f"The file {error}: send it again.")
        order = ImportRequest(
            family=claim.family,
            model_folder=model_folder.resolve(),
            file=file,
            folder=folder,
            memory_bytes=PROGRAM_BYTES + BYTES_PER_FILE_BYTE * claim.upload.size,
        )
        return ask_program(PROGRAM, order, ImportResult, check_lease, task="reads adapters")

    def _upload(self, claim: AdapterClaim, path: Path) -> Artifact:
        stored = self._storage.put_file(adapter_key(claim.id, claim.attempt, path.name), path)
        return Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)
