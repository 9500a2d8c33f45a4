"""An idle worker that hears nothing restarts its consumer.

Consumers sometimes stay deaf after the broker came back (celery#8030, #8091, #10205). The steward rings every queue
twice a minute, so silence means a deaf consumer, or an absent broker: reconnecting is right for both.
"""

import logging
import time
from typing import Any

from celery import bootsteps
from celery.worker import state

IDLE_SECONDS = 120.0
CHECK_SECONDS = 5.0

log = logging.getLogger(__name__)


class IdleWatch(bootsteps.StartStopStep):  # type: ignore[misc]
    """A timer in the consumer's own loop; a new one for each connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    idle_seconds = IDLE_SECONDS
    check_seconds = CHECK_SECONDS

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        self._num_heard, self._heard_at = -1, time.monotonic()
        self._timer = consumer.timer.call_repeatedly(self.check_seconds, self._check)

    def stop(self, consumer: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        num_heard, now = state.all_total_count[0], time.monotonic()
        if num_heard != self._num_heard or state.reserved_requests or state.active_requests:
            self._num_heard, self._heard_at = num_heard, now
        elif now - self._heard_at >= self.idle_seconds:
            # The exception of a lost connection: it makes Celery reconnect.
            raise ConnectionResetError(f"no bell was heard for {self.idle_seconds:.0f} s")
