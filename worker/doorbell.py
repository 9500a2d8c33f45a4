"""The steward's bell rope."""

import contextlib
import logging
import queue
import threading

from core.queue import TASK_OF, Bell
from worker.celery_app import app

BROKER_TIMEOUT_SECONDS = 2.0
MAX_WAITING = 32
"""More bells in a queue would wake no worker sooner, and a queue that no worker reads must not fill the broker."""

_OPTIONS = {
    "socket_connect_timeout": BROKER_TIMEOUT_SECONDS,
    "socket_timeout": BROKER_TIMEOUT_SECONDS,
    "retry_on_timeout": False,
    "max_retries": 0,
}

log = logging.getLogger(__name__)


class CeleryDoorbell:
    """``ring`` returns at once: one thread talks to the broker, so that a hanging broker delays nothing else.

    Each ring has a connection of its own: a broken one, or an emptied broker, does no harm.
    """

    def __init__(self) -> None:
        self._unsent: queue.Queue[Bell] = queue.Queue(MAX_WAITING)
        threading.Thread(target=self._send_all, name="doorbell", daemon=True).start()

    def ring(self, bell: Bell) -> None:
        """Best effort: never raises if the broker is away."""
        with contextlib.suppress(queue.Full):
            self._unsent.put_nowait(bell)

    def _send_all(self) -> None:
        while True:
            self._send(self._unsent.get())

    def _send(self, bell: Bell) -> None:
        task, queue_name = TASK_OF[bell]
        try:
            with app.connection_for_write(transport_options=_OPTIONS, connect_timeout=BROKER_TIMEOUT_SECONDS) as line:
                if line.channel().client.llen(queue_name) < MAX_WAITING:
                    app.send_task(task, queue=queue_name, connection=line, retry=False)
        except Exception as error:  # any exception of the broker's library: the next round rings again
            log.warning("the bell %s was not rung: %s", bell, error)
            self._forget_unsent()

    def _forget_unsent(self) -> None:
        """They would only wait for the same unresponsive broker, one after the other."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._unsent.get_nowait()
