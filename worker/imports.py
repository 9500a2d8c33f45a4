"""Checks imported adapters, one at a time: claim, have a program read and rewrite the file, commit under the fence."""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from core.db import adapter_claims, leases
from core.db.adapter_claims import ImportClaim
from core.db.leases import LostLease
from core.db.session import make_sessions, open_engine
from core.db.tables import Adapter
from core.domain.adapter_import import BYTES_PER_FILE_BYTE, PROGRAM_BYTES, ImportRequest, ImportResult
from core.domain.artifacts import AdapterFormat, Artifact, adapter_key, adapter_prefix
from core.model_folders import BaseMissing, find_model_folder
from core.settings import Settings
from core.storage import ObjectNotFound, Storage, StorageError, open_store_of
from worker import drain
from worker.deferrals import explain_waiting
from worker.lease import Draining, Lease
from worker.program import has_torch, run_program
from worker.scratch import open_scratch

PROGRAM = "worker.engine.adapter_files.importing"

log = logging.getLogger("atelier.adapters")


def import_next(settings: Settings) -> bool:
    """Checks the import that has waited longest; False if none waits, or this worker cannot or must not.

    Raises failures outside of the file: SQLAlchemyError, StorageError, OSError.
    """
    return has_torch() and open_importer(settings).import_next()


@functools.cache
def open_importer(settings: Settings) -> "AdapterImporter":
    """One per process: its connections live as long. Never opened before a fork."""
    sessions = make_sessions(open_engine(settings.database_url, pool_size=2))
    return AdapterImporter(settings, sessions, open_store_of(settings), drain.requested)


class AdapterImporter:
    """One worker's access to the waiting imports."""

    def __init__(
        self, settings: Settings, sessions: sessionmaker[Session], storage: Storage, drain: threading.Event
    ) -> None:
        self._settings, self._sessions, self._storage, self._drain = settings, sessions, storage, drain

    def import_next(self) -> bool:
        if self._drain.is_set():
            return False
        with self._sessions.begin() as session:
            claim = adapter_claims.claim_import(session, lease_seconds=self._settings.lease_seconds)
        if claim is None:
            return False
        self._import_adapter(claim)
        return True

    def _import_adapter(self, claim: ImportClaim) -> None:
        try:
            with open_scratch() as scratch, self._hold(claim) as lease:
                result = self._check(claim, scratch, lease.check)
                files = {name: self._upload(claim, path) for name, path in result.files.items()}
        except LostLease:
            log.warning("the lease on %s was lost; nothing is written", claim.id)
            self._clear_deleted(claim)
        except Draining:
            self._give_back(claim)
        except BaseMissing as error:  # later imports may be for another base
            log.error("%s is deferred: %s", claim.id, error)
            self._give_back(claim, explain_waiting(error))
        except SQLAlchemyError:
            self._give_back(claim)
            raise
        except (StorageError, OSError) as error:
            self._give_back(claim, explain_waiting(error))
            raise
        else:
            self._commit(claim, result, files)

    def _hold(self, claim: ImportClaim) -> Lease:
        return Lease(
            self._sessions,
            claim.id,
            lambda session: leases.renew(session, Adapter, claim, lease_seconds=self._settings.lease_seconds),
            heartbeat_seconds=self._settings.heartbeat_seconds,
            drain=self._drain,
        )

    def _check(self, claim: ImportClaim, scratch: Path, check: Callable[[], None]) -> ImportResult:
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
        return _run(order, check)

    def _upload(self, claim: ImportClaim, path: Path) -> Artifact:
        stored = self._storage.put_file(adapter_key(claim.id, claim.attempt, path.name), path)
        return Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)

    def _commit(self, claim: ImportClaim, result: ImportResult, files: dict[AdapterFormat, Artifact]) -> None:
        """Storage is cleared only after the row has the outcome, and only by the worker that wrote it."""
        with self._sessions.begin() as session:
            if result.findings is not None:
                held = adapter_claims.commit_import(session, claim, result.findings, files)
            else:
                held = adapter_claims.reject_import(session, claim, result.refusal or "")
        if not held:
            self._clear_deleted(claim)
            return
        log.info("%s is %s", claim.id, f"rejected: {result.refusal}" if result.refusal else "ready")
        self._storage.delete(claim.upload.key)

    def _clear_deleted(self, claim: ImportClaim) -> None:
        """An import that was deleted meanwhile may have received files after its own were removed."""
        with self._sessions() as session:
            gone = leases.is_gone(session, Adapter, claim.id)
        if gone:
            self._storage.delete_prefix(adapter_prefix(claim.id))

    def _give_back(self, claim: ImportClaim, waiting_reason: str | None = None) -> None:
        """If the database is away too, the lease runs out by itself."""
        with contextlib.suppress(SQLAlchemyError), self._sessions.begin() as session:
            leases.release(session, Adapter, claim, waiting_reason)


def _run(order: ImportRequest, check: Callable[[], None]) -> ImportResult:
    """A program that dies counts as a refusal: the file would kill the next one too."""
    ending = run_program(PROGRAM, order.model_dump_json().encode(), check)
    try:
        return ImportResult.model_validate_json(ending.answer)
    except ValidationError:
        return ImportResult(
            refusal=f"The program that reads adapters ended with {ending.exit_code} and gave no reason; the worker's "
            "log has more. -9 means that the system killed it, usually because memory ran out."
        )
