"""Checks imported adapters, one at a time: a program reads and rewrites the file."""

import logging
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.orm import Session

from core.db import adapter_claims
from core.db.adapter_claims import ImportClaim
from core.db.references import list_adapter_references
from core.db.tables import Adapter
from core.domain.adapter_import import BYTES_PER_FILE_BYTE, PROGRAM_BYTES, ImportRequest, ImportResult
from core.domain.artifacts import AdapterFormat, Artifact, adapter_key, adapter_prefix
from core.model_folders import BaseMissing, find_model_folder
from core.settings import Settings
from core.storage import ObjectNotFound, Storage, StorageError
from worker.consumer import open_consumer
from worker.program import ask_program, has_torch
from worker.scratch import open_scratch

PROGRAM = "worker.engine.adapter_files.importing"

CheckedImport = tuple[ImportResult, dict[AdapterFormat, Artifact]]

log = logging.getLogger("atelier.adapters")


def import_next(settings: Settings) -> bool:
    """Checks the import that has waited longest; False if none waits, or this worker cannot or must not.

    Raises failures outside of the file: SQLAlchemyError, StorageError, OSError.
    """
    return has_torch() and open_consumer(AdapterImport, settings).run_next()


class AdapterImport:
    """A ``Check`` of imported adapters."""

    table = Adapter
    outages = (StorageError, OSError)
    obstacles = (BaseMissing,)  # later uploads may be for another base

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings, self._storage = settings, storage

    def claim(self, session: Session, *, lease_seconds: float) -> ImportClaim | None:
        return adapter_claims.claim_import(session, lease_seconds=lease_seconds)

    def run(self, claim: ImportClaim, check_lease: Callable[[], None]) -> CheckedImport:
        with open_scratch() as scratch:
            result = self._read(claim, scratch, check_lease)
            return result, {name: self._upload(claim, path) for name, path in result.files.items()}

    def commit(self, session: Session, claim: ImportClaim, result: CheckedImport) -> bool:
        outcome, files = result
        if outcome.findings is not None:
            return adapter_claims.commit_import(session, claim, outcome.findings, files)
        return adapter_claims.reject_import(session, claim, outcome.refusal or "")

    def finish(self, claim: ImportClaim, result: CheckedImport) -> None:
        refusal = result[0].refusal
        log.info("%s is %s", claim.id, f"rejected: {refusal}" if refusal else "ready")
        self._storage.delete(claim.upload.key)

    def prefix_of(self, claim: ImportClaim) -> str:
        return adapter_prefix(claim.id)

    def list_references(self, session: Session, row_id: str) -> frozenset[str] | None:
        return list_adapter_references(session, row_id)

    def _read(self, claim: ImportClaim, scratch: Path, check_lease: Callable[[], None]) -> ImportResult:
        model_folder = find_model_folder(self._settings, claim.model_id)
        file = scratch / "upload.safetensors"
        try:
            stored = self._storage.fetch(claim.upload.key, file)
        except ObjectNotFound:
            return ImportResult(refusal="The file is gone from storage: send it again.")
        if stored.sha256 != claim.upload.sha256:
            return ImportResult(refusal="The file was damaged in storage: send it again.")
        folder = scratch / "written"
        folder.mkdir()
        order = ImportRequest(
            family=claim.family,
            model_folder=model_folder.resolve(),
            file=file,
            folder=folder,
            memory_bytes=PROGRAM_BYTES + BYTES_PER_FILE_BYTE * stored.size,
        )
        return ask_program(PROGRAM, order, ImportResult, check_lease, task="reads adapters")

    def _upload(self, claim: ImportClaim, path: Path) -> Artifact:
        stored = self._storage.put_file(adapter_key(claim.id, claim.attempt, path.name), path)
        return Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)
