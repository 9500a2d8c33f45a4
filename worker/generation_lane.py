"""Generations on the base of a running job, which its trainer draws between two steps."""

import logging
import threading
import time
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core.db import generation_claims
from core.db.generation_claims import GenerationClaim
from core.settings import Settings
from core.storage import Storage
from worker.consumer import Consumer
from worker.device.slot import DeviceSlot
from worker.device.trainer import TrainerDied, TrainerHandle, TrainerRun
from worker.device.wire import Failed, Generated, TrainingStopped
from worker.generations import STOP_SECONDS, Drawing
from worker.lease import Draining

LOOK_SECONDS = 1.0

log = logging.getLogger("atelier.generations")


class GenerationLane:
    """While it is open, a thread claims one generation after the other for the job's base. At the end, one that is not
    finished goes back to the queue, uncharged."""

    def __init__(self, slot: DeviceSlot, trainer: TrainerHandle, model_sha256: str) -> None:
        self._slot, self._over = slot, threading.Event()

        def make_check(settings: Settings, storage: Storage) -> LaneDrawing:
            return LaneDrawing(settings, storage, trainer, model_sha256)

        self._consumer = Consumer(make_check, slot.settings, slot.sessions, slot.storage, self._over)
        self._thread: threading.Thread | None = None
        self.seconds = 0.0
        """For which it held generations: the job's own time is shorter by them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def open(self) -> None:
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name="generation lane", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                while self._draw_next():
                    pass
            except (SQLAlchemyError, *Drawing.outages) as outage:
                log.warning("no generation is drawn beside the training for now: %s", outage)

    def _draw_next(self) -> bool:
        started = time.monotonic()
        drew: bool = self._consumer.run_next()
        if drew:
            self.seconds += time.monotonic() - started
        return drew


class LaneDrawing(Drawing):
    """It neither starts the trainer nor ends it: that is the job's."""

    poll_seconds = 0.1

    def __init__(self, settings: Settings, storage: Storage, trainer: TrainerHandle, model_sha256: str) -> None:
        super().__init__(settings, storage)
        self._trainer, self._model_sha256 = trainer, model_sha256

    def claim(self, session: Session, *, lease_seconds: float) -> GenerationClaim | None:
        if not self._trainer.is_alive():
            return None
        return generation_claims.claim_generation(session, lease_seconds=lease_seconds, model_sha256=self._model_sha256)

    def open_trainer(self) -> TrainerHandle:
        return self._trainer

    def drop_trainer(self) -> None:
        pass

    def explain_death(self, claim: GenerationClaim, error: TrainerDied) -> Failed:
        raise Draining(claim.id) from error

    def kill_if_stalled(self, run: TrainerRun, silent_seconds: float) -> None:
        """The job's own watch does."""

    def stop(self, run: TrainerRun) -> None:
        """The trainer leaves it at the end of the current denoising step; the files that it reads go after that."""
        try:
            run.stop(save=False)
            while (report := run.receive(STOP_SECONDS)) is not None:
                if isinstance(report, TrainingStopped | Generated | Failed):
                    return
        except TrainerDied:
            log.info("the trainer ended while it drew beside a training")
