"""The steward's bell rope."""

import logging

from core.queue import TASK_OF, Bell
from worker.celery_app import app

BROKER_TIMEOUT_SECONDS = 2.0
MAX_WAITING = 32
"""More bells than this in a queue wake nobody sooner, and a queue that nobody reads must not fill the broker."""

log = logging.getLogger(__name__)


class CeleryDoorbell:
    """Rings at once, over a connection of its own: one that broke, or a broker that was emptied, is no matter."""

    def ring(self, bell: Bell) -> None:
        """Best effort: never raises when the broker is away."""
        task, queue = TASK_OF[bell]
        try:
            with app.connection_for_write(transport_options=_OPTIONS, connect_timeout=BROKER_TIMEOUT_SECONDS) as line:
                if line.channel().client.llen(queue) < MAX_WAITING:
                    app.send_task(task, queue=queue, connection=line, retry=False)
        except Exception as error:  # whatever the broker's library raises: the next round rings again
            log.warning("the bell %s was not rung: %s", bell, error)


_OPTIONS = {
    "socket_connect_timeout": BROKER_TIMEOUT_SECONDS,
    "socket_timeout": BROKER_TIMEOUT_SECONDS,
    "retry_on_timeout": False,
    "max_retries": 0,
}
