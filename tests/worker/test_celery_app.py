"""The broker's settings, one by one: each has its reason beside it in ``configure``."""

import subprocess
import sys

import pytest
from celery import Celery

from cli.local.programs import ROOT
from core.queue import CPU_QUEUE, TRAIN_QUEUE, TRAIN_TASK, VALIDATE_TASK
from core.settings import Settings
from worker.celery_app import configure

NOWHERE = {"DATABASE_URL": "postgresql://nowhere", "REDIS_URL": "redis://nowhere"}


@pytest.fixture
def celery() -> Celery:
    app = Celery("test", set_as_current=False)
    app.add_defaults(lambda: configure(Settings(database_url="postgresql://x", redis_url="redis://somewhere:7/3")))
    return app


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("broker_url", "redis://somewhere:7/3"),
        ("task_acks_late", False),
        ("task_reject_on_worker_lost", False),
        ("visibility_timeout", 600),
        ("worker_prefetch_multiplier", 1),
        ("worker_disable_prefetch", True),
        ("worker_cancel_long_running_tasks_on_connection_loss", False),
        ("task_ignore_result", True),
        ("result_backend", None),
        ("accept_content", ["json"]),
        ("task_serializer", "json"),
        ("result_serializer", "json"),
        ("broker_connection_max_retries", None),
        ("broker_connection_retry", True),
        ("broker_connection_retry_on_startup", True),
        ("task_create_missing_queues", False),
        ("worker_enable_remote_control", False),
    ],
)
def test_setting(celery: Celery, name: str, value: object) -> None:
    assert celery.conf[name] == value


@pytest.mark.parametrize("options", ["broker_transport_options", "result_backend_transport_options"])
def test_visibility_timeout_in_the_other_two_places(celery: Celery, options: str) -> None:
    assert celery.conf[options]["visibility_timeout"] == 600


def test_the_transport_takes_the_visibility_timeout(celery: Celery, redis_url: str) -> None:
    """Under the very name that kombu reads."""
    with celery.connection_for_read(url=redis_url) as connection:
        assert connection.channel().visibility_timeout == 600


def test_celery_knows_the_settings() -> None:
    """A misspelt name would be taken without a word. One is in its documentation alone."""
    from celery.app.defaults import NAMESPACES, flatten

    known = {name for name, _ in flatten(NAMESPACES)}
    ours = set(configure(Settings(database_url="postgresql://x", redis_url="redis://x")))
    assert ours - known == {"visibility_timeout"}


def test_queues_and_routes(celery: Celery) -> None:
    assert set(celery.amqp.queues) == {TRAIN_QUEUE, CPU_QUEUE}
    for task, queue in ((TRAIN_TASK, TRAIN_QUEUE), (VALIDATE_TASK, CPU_QUEUE)):
        assert celery.amqp.router.route({}, task)["queue"].name == queue


def test_the_tasks_have_their_names_and_no_torch_comes_with_them() -> None:
    script = """
import sys
from worker.celery_app import app
import worker.tasks
assert {"atelier.train", "atelier.validate"} <= set(app.tasks), set(app.tasks)
heavy = {"torch", "diffusers", "peft", "accelerate", "transformers"} & {name.partition(".")[0] for name in sys.modules}
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, env=NOWHERE)
