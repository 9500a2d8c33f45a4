"""The Celery tasks: answer a bell by working until nothing is due."""

from celery.signals import worker_process_shutdown

from core.queue import DELIVER_TASK, TRAIN_TASK, VALIDATE_TASK
from core.settings import load_settings
from worker import deliveries
from worker.bases import register_next
from worker.calibration import calibrate_next
from worker.captioners import register_next_captioner
from worker.captionings import caption_next
from worker.celery_app import app
from worker.checks import check_next
from worker.covers import read_next_cover
from worker.datasets import service
from worker.device.slot import open_slot
from worker.drain import request_drain
from worker.generations import generate_next
from worker.imports import import_next
from worker.jobs import runner
from worker.lifetime import install_shutdown_hooks
from worker.promotions import promote_next
from worker.publications import publish_next


@app.task(name=TRAIN_TASK)  # type: ignore[untyped-decorator]
def train() -> None:
    settings = load_settings()
    # One of each in turn: however many imports wait, they do not hold up the training of others.
    preparing = (register_next, register_next_captioner, import_next, check_next, promote_next)
    turns = (*preparing, generate_next, runner.run_next, caption_next)
    with open_slot(settings).staying_registered():
        while sum(take_turn(settings) for take_turn in turns) or calibrate_next(settings):
            pass


@app.task(name=VALIDATE_TASK)  # type: ignore[untyped-decorator]
def validate() -> None:
    settings = load_settings()
    preparing = (register_next, register_next_captioner, import_next, check_next, promote_next)
    workings = (service.validate_next, read_next_cover, *preparing, publish_next)
    while any(work(settings) for work in workings):
        pass


@app.task(name=DELIVER_TASK)  # type: ignore[untyped-decorator]
def deliver() -> None:
    deliveries.wake(load_settings())


install_shutdown_hooks(on_drain=request_drain)
worker_process_shutdown.connect(lambda **_: deliveries.finish(), weak=False)
