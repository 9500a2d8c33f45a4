"""A client on a real API; datasets are validated by the real validator, jobs are played by the test."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import app
from client import AtelierClient
from core.settings import Settings
from tests.fixtures.running_api import RunningApi, own_api, running_api, shared_api
from tests.fixtures.scripted_job import claim_any, register_scripted_model
from worker.datasets.service import validate_next

__all__ = ["own_api", "running_api", "shared_api"]

Atelier = Callable[..., Result]


@pytest.fixture
def atelier(running_api: RunningApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Atelier:
    """Runs a command in an empty folder against the API."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_URL", running_api.url)
    monkeypatch.setenv("ATELIER_API_KEY", running_api.api_key)
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def client(running_api: RunningApi) -> Iterator[AtelierClient]:
    with AtelierClient(running_api.url, running_api.api_key) as opened:
        yield opened


@contextmanager
def repeating(work: Callable[[], object]) -> Iterator[None]:
    """In a thread, until the block ends; what it raises is raised there."""
    stop = threading.Event()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            while not stop.is_set():
                work()
                stop.wait(0.05)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if raised:
        raise raised[0]


@pytest.fixture
def validator(running_api: RunningApi) -> Iterator[None]:
    env = running_api.env
    settings = Settings(
        DATABASE_URL=running_api.database_url, REDIS_URL=env["REDIS_URL"], ATELIER_HOME=running_api.log.parent
    )
    with repeating(lambda: validate_next(settings)):
        yield


@pytest.fixture
def trainer(running_api: RunningApi) -> Iterator[None]:
    """Plays every job to a good end."""
    register_scripted_model(running_api)

    def play_next() -> None:
        if (work := claim_any(running_api)) is not None:
            work.train_to_the_end()

    with repeating(play_next):
        yield
