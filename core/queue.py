"""The doorbells: Celery tasks without arguments. The database has the work.

A ring may be lost, late or doubled without harm: the worker that hears it claims a row or finds none. ``Doorbell`` is
the seam; ``core.doorbell`` rings, ``worker.celery_app`` has the workers' side.
"""

from typing import Literal, Protocol

TRAIN_QUEUE = "train"
CPU_QUEUE = "cpu"
TRAIN_TASK = "atelier.train"
VALIDATE_TASK = "atelier.validate"
DELIVER_TASK = "atelier.deliver"

Bell = Literal["train", "validate", "deliver"]

TASK_OF: dict[Bell, tuple[str, str]] = {
    "train": (TRAIN_TASK, TRAIN_QUEUE),
    "validate": (VALIDATE_TASK, CPU_QUEUE),
    "deliver": (DELIVER_TASK, CPU_QUEUE),
}
"""Bell -> (task name, queue name)."""

VISIBILITY_TIMEOUT_SECONDS = 600


def progress_channel(job_id: str) -> str:
    """The Redis channel for changes of a job's row or events."""
    return f"atelier:job:{job_id}"


class Doorbell(Protocol):
    def ring(self, bell: Bell, num_workers: int = 1) -> None:
        """Wakes up to ``num_workers`` workers. Best effort: never raises if the broker is away."""
