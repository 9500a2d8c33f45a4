"""The Celery application: the broker's configuration, without the tasks' work.

No setting here can lose or double a job, since messages are only doorbells (see ``core.queue``). They are chosen so
that no bell is wasted, and that the broker's troubles never touch a running job.
"""

from typing import Any

from celery import Celery
from celery.signals import setup_logging
from kombu import Queue

from core.logs import configure_logging
from core.queue import CPU_QUEUE, TASK_OF, TRAIN_QUEUE, VISIBILITY_TIMEOUT_SECONDS
from core.settings import Settings, load_settings
from worker.idle import IdleWatch

CONNECT_TIMEOUT_SECONDS = 5.0


def configure(settings: Settings) -> dict[str, Any]:
    return {
        "broker_url": settings.redis_url,
        # The default gives up after 100 retries, at startup as well as later.
        "broker_connection_max_retries": None,
        "broker_connection_retry_on_startup": True,
        # The shortest of all that share a broker wins, and Celery reads three of them.
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
            "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "socket_keepalive": True,
        },
        "result_backend_transport_options": {"visibility_timeout": VISIBILITY_TIMEOUT_SECONDS},
        "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
        # The database has the result.
        "result_backend": None,
        "task_ignore_result": True,
        # A late ack past the visibility timeout runs a task twice (celery#5935, #5306, #3430).
        "task_acks_late": False,
        # Would loop a message; the steward handles recovery.
        "task_reject_on_worker_lost": False,
        # A busy worker must not prefetch bells that an idle one could answer (celery#1933, #6500).
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        # A blip of the broker must not end a training.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_queues": [Queue(TRAIN_QUEUE), Queue(CPU_QUEUE)],
        "task_routes": {task: {"queue": queue} for task, queue in TASK_OF.values()},
        "task_create_missing_queues": False,
        # We send none, and anybody with access to the broker could end workers by it.
        "worker_enable_remote_control": False,
    }


def log_as_the_others_do(**_: Any) -> None:
    """Instead of Celery's own."""
    configure_logging("worker")


setup_logging.connect(log_as_the_others_do)
app = Celery("atelier", include=["worker.tasks"], set_as_current=False)
# Read when Celery first needs it: importing this module requires no environment.
app.add_defaults(lambda: configure(load_settings()))
app.steps["consumer"].add(IdleWatch)
