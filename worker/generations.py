"""Draws generations in the slot's trainer: when no job holds it, and on a job's base between two of its steps."""

import contextlib
import hashlib
import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from core.db import generation_claims
from core.db.generation_claims import GenerationClaim
from core.db.references import list_generation_references
from core.db.tables import Generation
from core.domain.artifacts import Artifact, generation_key, generation_prefix
from core.domain.errors import ModelRejected
from core.domain.generation import GenerationPlan, name_sheet
from core.domain.model import ModelInfo
from core.domain.states import TerminationReason
from core.model_folders import BaseMissing, find_planned_folder
from core.queue import progress_channel
from core.settings import Settings
from core.storage import Storage, StorageError
from worker.adapter_inputs import InputLost, fetch_input
from worker.consumer import open_consumer
from worker.device.slot import DeviceSlot, open_slot
from worker.device.trainer import TrainerDied, TrainerHandle, TrainerRun
from worker.device.wire import Failed, Generate, Generated, ImageDrawn, TrainingStopped
from worker.scratch import open_scratch

STOP_SECONDS = 20.0
"""For the trainer to leave a generation whose lease is lost; it is killed after that."""

log = logging.getLogger("atelier.generations")


def generate_next(settings: Settings) -> bool:
    """Draws the generation that has waited longest; False if none waits, or this worker is shutting down.

    Raises failures outside of the generation: SQLAlchemyError, StorageError, OSError.
    """
    return open_consumer(Drawing, settings).run_next()


class Drawing:
    """A ``Check`` of generations: the result is None, or why it failed."""

    table = Generation
    outages = (StorageError, OSError)
    obstacles = (BaseMissing,)  # later generations may be for another base
    poll_seconds = 0.5

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings, self._storage = settings, storage

    def claim(self, session: Session, *, lease_seconds: float) -> GenerationClaim | None:
        return generation_claims.claim_generation(session, lease_seconds=lease_seconds)

    def run(self, claim: GenerationClaim, check_lease: Callable[[], None]) -> Failed | None:
        try:
            plan, model = GenerationPlan.model_validate(claim.plan), ModelInfo.model_validate(claim.card)
        except ValidationError:
            log.exception("%s cannot be read by this version of the worker", claim.id)
            return _fail(claim, "its plan is of another version of the service")
        with open_scratch() as scratch:
            try:
                command = self._make_command(claim, plan, model, scratch)
            except ModelRejected as error:
                return _refuse(claim, error.detail)
            except InputLost as error:
                return _refuse(claim, str(error))
            return self._draw(claim, command, check_lease)

    def commit(self, session: Session, claim: GenerationClaim, result: Failed | None) -> bool:
        if result is None:
            return generation_claims.succeed(session, claim)
        return generation_claims.fail(session, claim, result.reason, result.detail)

    def finish(self, claim: GenerationClaim, result: Failed | None) -> None:
        log.info("%s %s", claim.id, f"failed: {result.detail}" if result else "succeeded")
        self._announce(claim)

    def prefix_of(self, claim: GenerationClaim) -> str:
        return generation_prefix(claim.id)

    def list_references(self, session: Session, row_id: str) -> frozenset[str] | None:
        return list_generation_references(session, row_id)

    @property
    def _slot(self) -> DeviceSlot:
        return open_slot(self._settings)

    def _make_command(self, claim: GenerationClaim, plan: GenerationPlan, model: ModelInfo, scratch: Path) -> Generate:
        folder = find_planned_folder(self._settings, model, plan.model_sha256)
        files: dict[str, Path] = {}
        for adapter in plan.adapters:
            sha256 = adapter.file.sha256
            try:
                files[sha256] = fetch_input(self._storage, adapter.file, scratch / f"{sha256}.safetensors")
            except InputLost as error:
                raise InputLost(f"The file of {adapter.id} {error}") from None
        return Generate(
            run_id=f"{claim.id}/{claim.attempt}/{uuid.uuid4().hex[:8]}",  # a released attempt has its number again
            plan=plan,
            model_folder=folder,
            model=model,
            cpu_threads=self._settings.cpu_threads,
            files=files,
            folder=scratch / "images",
        )

    def _draw(self, claim: GenerationClaim, command: Generate, check_lease: Callable[[], None]) -> Failed | None:
        trainer = self.open_trainer()
        try:
            run = trainer.start(command)
            try:
                failure = self._follow(claim, run, check_lease)
            except BaseException:
                self.stop(run)
                raise
            return failure
        except TrainerDied as error:
            return self.explain_death(claim, error)
        finally:
            trainer.forget(command.run_id)

    def _follow(self, claim: GenerationClaim, run: TrainerRun, check_lease: Callable[[], None]) -> Failed | None:
        """Uploads each image as it is drawn."""
        heard_at = time.monotonic()
        while True:
            check_lease()
            report = run.receive(self.poll_seconds)
            now = time.monotonic()
            heard_at = heard_at if report is None else now
            self.kill_if_stalled(run, now - heard_at)
            if isinstance(report, ImageDrawn):
                self._keep(claim, report)
            elif isinstance(report, Generated):
                return None
            elif isinstance(report, Failed):
                if report.reason in {TerminationReason.INFRASTRUCTURE, TerminationReason.OUT_OF_MEMORY}:
                    self.drop_trainer()
                return report

    def _keep(self, claim: GenerationClaim, report: ImageDrawn) -> None:
        name = name_sheet(report.index) if report.is_sheet else str(report.index)
        key = generation_key(claim.id, claim.attempt, f"{name}-{hash_file(report.path)}.png")
        stored = self._storage.put_file(key, report.path, content_type="image/png")
        image = Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)
        with self._slot.sessions.begin() as session:
            generation_claims.add_image(session, claim, name, image)
        self._announce(claim)

    # --- its hold on the trainer, which a lane beside a training lacks ---

    def open_trainer(self) -> TrainerHandle:
        return self._slot.warm_trainer()

    def drop_trainer(self) -> None:
        self._slot.drop_trainer()

    def explain_death(self, claim: GenerationClaim, error: TrainerDied) -> Failed:
        self.drop_trainer()
        return _fail(claim, f"{error}, while it drew; request it again, and ask the operator if that repeats")

    def kill_if_stalled(self, run: TrainerRun, silent_seconds: float) -> None:
        if silent_seconds > self._settings.stall_seconds:
            log.error("a generation gave no sign of life for %.0f s", silent_seconds)
            run.kill()

    def stop(self, run: TrainerRun) -> None:
        """The device must be free for the next claim."""
        try:
            run.stop(save=False)
            while (report := run.receive(STOP_SECONDS)) is not None:
                if isinstance(report, TrainingStopped | Generated):
                    return
            self.drop_trainer()
        except TrainerDied:
            self.drop_trainer()

    def _announce(self, claim: GenerationClaim) -> None:
        with contextlib.suppress(RedisError):
            self._slot.bell.publish(progress_channel(claim.id), "")


def hash_file(path: Path) -> str:
    """An attempt's number may be used again, and an image that a row names must not be overwritten by another."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _fail(claim: GenerationClaim, detail: str) -> Failed:
    return Failed(run_id=claim.id, reason=TerminationReason.INFRASTRUCTURE, detail=detail)


def _refuse(claim: GenerationClaim, detail: str) -> Failed:
    return Failed(run_id=claim.id, reason=TerminationReason.BAD_INPUT, detail=detail)
