"""Why an attempt stops early: a client's request, the time limit, or a drain of the worker."""

import threading
import time

from core.domain.plan import TrainPlan
from core.domain.states import JobStatus
from worker.device.heartbeat import HeldClaim
from worker.device.slot import DeviceSlot
from worker.device.trainer import TrainerRun

STOP_GRACE_SECONDS = 10.0


class StopRequested(Exception):
    """The job must stop, and the trainer does not have it yet."""


class Stops:
    """``started_at``, on the monotonic clock: now, less the working time of earlier attempts."""

    def __init__(self, plan: TrainPlan, held: HeldClaim, drain: threading.Event, started_at: float) -> None:
        self._max_seconds, self._held, self._drain = plan.max_duration_seconds, held, drain
        self._started_at = started_at
        self._requested_at: float | None = None
        self.lent_seconds = 0.0
        """In which others drew beside the job: they do not count."""

    @property
    def reason(self) -> JobStatus | None:
        """The requested status of the job: canceling, pausing, or queued for a drain."""
        if self._held.requested_status in {JobStatus.CANCELING, JobStatus.PAUSING}:
            return self._held.requested_status
        if self.is_over_time():
            return JobStatus.CANCELING
        return JobStatus.QUEUED if self._drain.is_set() else None

    @property
    def was_forwarded(self) -> bool:
        """Whether the trainer has been asked to stop."""
        return self._requested_at is not None

    def is_over_time(self) -> bool:
        own = time.monotonic() - self._started_at - self.lent_seconds
        return self._max_seconds is not None and own > self._max_seconds

    def raise_if_requested(self) -> None:
        """For the time before the trainer has the job. Raises LostLease or StopRequested."""
        self._held.raise_if_lost()
        if self.reason is not None:
            raise StopRequested

    def forward(self, slot: DeviceSlot, run: TrainerRun) -> None:
        """Asks the trainer to stop, and kills it if it has not stopped after STOP_GRACE_SECONDS."""
        reason = self.reason
        if reason is None:
            return
        if self._requested_at is None:
            self._requested_at = time.monotonic()
            run.stop(save=reason is not JobStatus.CANCELING)
        elif time.monotonic() - self._requested_at > STOP_GRACE_SECONDS:
            slot.drop_trainer()  # the next receive raises TrainerDied
