"""Rings the workers over Celery. A ring that is lost costs seconds, never a job: the steward rings again."""

import logging
import threading

from celery import Celery

from core.queue import TASK_OF, VISIBILITY_TIMEOUT_SECONDS, Bell

BROKER_TIMEOUT_SECONDS = 2.0
PAUSE_SECONDS = 0.05
"""Between two connections to the broker: each costs several milliseconds, which requests would wait for."""
MAX_WAITING = 32
"""More bells in a queue would wake no worker sooner, and a queue that no worker reads must not fill the broker."""

log = logging.getLogger(__name__)


class CeleryDoorbell:
    """``ring`` returns at once: one thread talks to the broker, so that a hanging broker delays nothing else.

    Bells carry no data, so one that waits to be sent stands for all that are rung meanwhile. Each time, they are sent
    over a connection of their own: a broken one, or an emptied broker, does no harm. A bell whose queue is long is not
    sent: `deliver` shares its queue with `validate`, and may then wait for the steward.
    """

    def __init__(self, redis_url: str) -> None:
        self._celery = _make_producer(redis_url)
        self._unsent: dict[Bell, int] = {}
        self._changed, self._closing = threading.Condition(), False
        self._thread = threading.Thread(target=self._send_all, name="doorbell", daemon=True)
        self._thread.start()

    def ring(self, bell: Bell, num_workers: int = 1) -> None:
        with self._changed:
            self._unsent[bell] = max(num_workers, self._unsent.get(bell, 0))
            self._changed.notify()

    def close(self) -> None:
        """Sends the waiting bells, for as long as the broker's timeouts allow."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(2 * BROKER_TIMEOUT_SECONDS)
        if not self._thread.is_alive():
            self._celery.close()

    def _send_all(self) -> None:
        while unsent := self._take():
            try:
                self._send(unsent)
            except Exception as error:  # any exception of the broker's library: the steward rings again
                log.warning("the bells %s were not all rung: %s", ", ".join(unsent), error)
            with self._changed:
                self._changed.wait_for(lambda: self._closing, PAUSE_SECONDS)

    def _take(self) -> dict[Bell, int]:
        """Waits for a ring; empty when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._unsent or self._closing)
            unsent, self._unsent = self._unsent, {}
            return unsent

    def _send(self, unsent: dict[Bell, int]) -> None:
        with self._celery.connection_for_write() as connection:
            redis = connection.channel().client
            for bell, num_workers in unsent.items():
                task, queue = TASK_OF[bell]
                for _ in range(min(num_workers, MAX_WAITING - redis.llen(queue))):
                    self._celery.send_task(task, queue=queue, connection=connection, retry=False, ignore_result=True)


def _make_producer(redis_url: str) -> Celery:
    """A Celery application that only sends."""
    producer = Celery("atelier", broker=redis_url, set_as_current=False)
    producer.conf.update(
        task_serializer="json",
        task_ignore_result=True,
        broker_connection_retry=False,
        broker_connection_timeout=BROKER_TIMEOUT_SECONDS,
        broker_transport_options={
            # The shortest of all that share the broker wins, so all use the same.
            "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
            "socket_connect_timeout": BROKER_TIMEOUT_SECONDS,
            "socket_timeout": BROKER_TIMEOUT_SECONDS,
            "retry_on_timeout": False,
            "max_retries": 0,
        },
    )
    return producer
