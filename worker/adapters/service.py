"""Checks imported adapters, one at a time: claim, have the file read and written anew by a program, commit under the
fence.
"""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from core.db import adoption
from core.db.adoption import AdoptionClaim
from core.db.claims import LostLease
from core.db.session import make_sessions, open_engine
from core.domain.adoption import BYTES_PER_FILE_BYTE, PROGRAM_BYTES, Adopted, Adoption
from core.domain.artifacts import AdapterFormat, Artifact, adapter_key, adapter_prefix
from core.model_folders import BaseMissing, find_model_folder
from core.settings import Settings
from core.storage import ObjectNotFound, Storage, StorageError, open_store_of
from worker import drain
from worker.datasets.scratch import open_scratch
from worker.deferrals import explain_waiting
from worker.lease import Draining, Lease
from worker.program import has_torch, run_program

PROGRAM = "worker.engine.adapter_files.importing"

log = logging.getLogger("atelier.adapters")


def adopt_next(settings: Settings) -> bool:
    """Checks the import that has waited longest; False when none waits, or this worker cannot or must not.

    Raises what no file is to blame for: SQLAlchemyError, StorageError, OSError.
    """
    return has_torch() and open_adopter(settings).adopt_next()


@functools.cache
def open_adopter(settings: Settings) -> "Adopter":
    """One per process: its connections live as long. Never opened before a fork."""
    sessions = make_sessions(open_engine(settings.database_url, pool_size=2))
    return Adopter(settings, sessions, open_store_of(settings), drain.requested)


class Adopter:
    """One worker's view of the imports that wait."""

    def __init__(
        self, settings: Settings, sessions: sessionmaker[Session], storage: Storage, drain: threading.Event
    ) -> None:
        self._settings, self._sessions, self._storage, self._drain = settings, sessions, storage, drain

    def adopt_next(self) -> bool:
        if self._drain.is_set():
            return False
        with self._sessions.begin() as session:
            claim = adoption.claim_adoption(session, lease_seconds=self._settings.lease_seconds)
        if claim is None:
            return False
        self._adopt(claim)
        return True

    def _adopt(self, claim: AdoptionClaim) -> None:
        try:
            with open_scratch() as scratch, self._hold(claim) as lease:
                adopted = self._check(claim, scratch, lease.check)
                files = {name: self._upload(claim, path) for name, path in adopted.files.items()}
        except LostLease:
            log.warning("the lease on %s was lost; nothing is written", claim.adapter_id)
            self._clear_deleted(claim)
        except Draining:
            self._give_back(claim)
        except BaseMissing as error:  # what waits behind it may be for another base
            log.error("%s is put off: %s", claim.adapter_id, error)
            self._give_back(claim, explain_waiting(error))
        except SQLAlchemyError:
            self._give_back(claim)
            raise
        except (StorageError, OSError) as error:
            self._give_back(claim, explain_waiting(error))
            raise
        else:
            self._commit(claim, adopted, files)

    def _hold(self, claim: AdoptionClaim) -> Lease:
        return Lease(
            self._sessions,
            claim.adapter_id,
            lambda session: adoption.renew_adoption(session, claim, lease_seconds=self._settings.lease_seconds),
            heartbeat_seconds=self._settings.heartbeat_seconds,
            drain=self._drain,
        )

    def _check(self, claim: AdoptionClaim, scratch: Path, check: Callable[[], None]) -> Adopted:
        model_folder = find_model_folder(self._settings, claim.model_id)
        file = scratch / "upload.safetensors"
        try:
            stored = self._storage.fetch(claim.upload.key, file)
        except ObjectNotFound:
            return Adopted(refusal="The file is gone from storage: send it again.")
        if stored.sha256 != claim.upload.sha256:
            return Adopted(refusal="The file was damaged in storage: send it again.")
        folder = scratch / "written"
        folder.mkdir()
        order = Adoption(
            family=claim.family,
            model_folder=model_folder.resolve(),
            file=file,
            folder=folder,
            memory_bytes=PROGRAM_BYTES + BYTES_PER_FILE_BYTE * stored.size,
        )
        return _run(order, check)

    def _upload(self, claim: AdoptionClaim, path: Path) -> Artifact:
        stored = self._storage.put_file(adapter_key(claim.adapter_id, claim.attempt, path.name), path)
        return Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)

    def _commit(self, claim: AdoptionClaim, adopted: Adopted, files: dict[AdapterFormat, Artifact]) -> None:
        """Storage is cleared only after the row says what became of the file, and only by the one who wrote it."""
        with self._sessions.begin() as session:
            if adopted.findings is not None:
                held = adoption.commit_adoption(session, claim, adopted.findings, files)
            else:
                held = adoption.reject_adoption(session, claim, adopted.refusal or "")
        if not held:
            self._clear_deleted(claim)
            return
        log.info("%s is %s", claim.adapter_id, f"rejected: {adopted.refusal}" if adopted.refusal else "ready")
        self._storage.delete(claim.upload.key)

    def _clear_deleted(self, claim: AdoptionClaim) -> None:
        """One that was deleted meanwhile may have got files after its own were removed."""
        with self._sessions() as session:
            gone = adoption.is_adapter_gone(session, claim.adapter_id)
        if gone:
            self._storage.delete_prefix(adapter_prefix(claim.adapter_id))

    def _give_back(self, claim: AdoptionClaim, setback: str | None = None) -> None:
        """If the database is away too, the lease runs out by itself."""
        with contextlib.suppress(SQLAlchemyError), self._sessions.begin() as session:
            adoption.give_back_adoption(session, claim, setback)


def _run(order: Adoption, check: Callable[[], None]) -> Adopted:
    """A program that dies has refused: the file would kill the next one too."""
    ending = run_program(PROGRAM, order.model_dump_json().encode(), check)
    try:
        return Adopted.model_validate_json(ending.answer)
    except ValidationError:
        return Adopted(
            refusal=f"The program that reads adapters ended with {ending.exit_code}, and did not say why; the worker's "
            "log has more. -9 means that it was killed, which the system does when memory runs out."
        )
