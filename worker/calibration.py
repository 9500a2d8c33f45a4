"""Times bases that nobody has trained on yet, when this worker has nothing else to do: a dry run on them then says how
long a job takes."""

import logging
import os
import time

from core.db import models
from core.domain.errors import ModelRejected
from core.domain.model import ModelInfo
from core.domain.registration import CalibrationRequest, CalibrationResult
from core.model_folders import BaseMissing, find_planned_folder
from core.settings import Settings
from worker import drain
from worker.device.slot import open_slot
from worker.lease import Draining
from worker.program import ONE_THREAD, ask_program, has_torch

PROGRAM = "worker.engine.bases.calibration"
MAX_SECONDS = 300.0

log = logging.getLogger("atelier.models")

_tried: set[tuple[str, str]] = set()
"""By this process: ids of models with their sha256. One that cannot be timed is not tried again."""


def calibrate_next(settings: Settings) -> bool:
    """Times one base; False if none waits for it, or this worker cannot or must not."""
    if drain.requested.is_set() or not has_torch():
        return False
    slot = open_slot(settings)
    with slot.sessions.begin() as session:  # open meanwhile: two at a time would measure each other
        row = models.claim_uncalibrated(session, excluding=_tried)
        if row is None:
            return False
        model = models.read_card(row)
        if settings.device != "cpu":
            slot.drop_trainer()  # its warm base is in the device's memory
        try:
            result = _calibrate(settings, model)
        except (Draining, BaseMissing, ModelRejected):
            return False
        _tried.add((model.id, model.sha256))
        if result.calibration is None:
            log.warning("the speed of %s was not measured: %s", model.id, result.refusal)
        else:
            models.record_calibration(session, model, result.calibration)
            log.info("a sample of %s takes %.2f s here", model.id, result.calibration.seconds_per_sample)
    return True


def _calibrate(settings: Settings, model: ModelInfo) -> CalibrationResult:
    ends_at = time.monotonic() + MAX_SECONDS

    def check() -> None:
        if drain.requested.is_set():
            raise Draining(model.id)
        if time.monotonic() > ends_at:
            raise TimeoutError

    order = CalibrationRequest(
        model=model,
        folder=find_planned_folder(settings, model, model.sha256),
        device=settings.device,
        cpu_threads=settings.cpu_threads,
    )
    threads = {name: os.environ.get(name) for name in ONE_THREAD}  # as the trainer's
    try:
        return ask_program(PROGRAM, order, CalibrationResult, check, task="times bases", environment=threads)
    except TimeoutError:
        return CalibrationResult(refusal=f"it takes longer than {MAX_SECONDS:.0f} s")
