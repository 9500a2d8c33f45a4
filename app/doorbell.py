"""Rings the workers over Celery. A ring that is lost costs seconds, never a job: the steward rings again."""

import logging
import queue
import threading

from celery import Celery

from core.queue import TASK_OF, VISIBILITY_TIMEOUT_SECONDS, Bell

BROKER_TIMEOUT_SECONDS = 2.0

logger = logging.getLogger(__name__)


class CeleryDoorbell:
    """``ring`` returns at once; its own thread talks to the broker.

    Bells carry no data, so one that waits to be sent stands for all that are requested meanwhile.
    """

    def __init__(self, redis_url: str) -> None:
        self._celery = _make_producer(redis_url)
        self._queue: queue.SimpleQueue[Bell | None] = queue.SimpleQueue()
        self._waiting: set[Bell] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._send_all, name="doorbell", daemon=True)
        self._thread.start()

    def ring(self, bell: Bell) -> None:
        with self._lock:
            if bell in self._waiting:
                return
            self._waiting.add(bell)
        self._queue.put(bell)

    def close(self) -> None:
        """Sends the waiting bells, for as long as the broker's timeouts allow."""
        self._queue.put(None)
        self._thread.join(2 * BROKER_TIMEOUT_SECONDS)
        if not self._thread.is_alive():
            self._celery.close()

    def _send_all(self) -> None:
        while (bell := self._queue.get()) is not None:
            with self._lock:
                self._waiting.discard(bell)
            self._send(bell)

    def _send(self, bell: Bell) -> None:
        task, queue_name = TASK_OF[bell]
        try:
            self._celery.send_task(task, queue=queue_name, retry=False, ignore_result=True)
        except Exception as error:  # any exception of the broker's library: the steward rings again
            logger.warning("the bell %s was not rung: %s", bell, error)


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
