"""The Celery tasks: answer a bell by working until nothing is due."""

from core.queue import TRAIN_TASK, VALIDATE_TASK
from core.settings import load_settings
from worker import runner
from worker.celery_app import app
from worker.datasets import service
from worker.lifetime import tie_lives


@app.task(name=TRAIN_TASK)  # type: ignore[untyped-decorator]
def train() -> None:
    while runner.run_next(load_settings()):
        pass


@app.task(name=VALIDATE_TASK)  # type: ignore[untyped-decorator]
def validate() -> None:
    while service.validate_next(load_settings()):
        pass


def request_drain() -> None:
    runner.request_drain()
    service.request_drain()


tie_lives(on_drain=request_drain)
