"""A real API on a real server in a thread, over a fresh database, the test's Valkey and a directory store."""

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import redis
import uvicorn
from fastapi import FastAPI
from sqlalchemy.orm import Session, sessionmaker

from app.main import create_app
from app.services import Services
from core.domain.keys import make_api_key
from core.settings import Settings
from core.storage import Storage, open_storage
from tests.fixtures.servers import wait_for

START_SECONDS = 60


@dataclass
class LiveApi:
    url: str
    app: FastAPI = field(repr=False)
    settings: Settings = field(repr=False)
    api_key: str = field(repr=False)
    storage: Storage = field(repr=False)
    sessions: sessionmaker[Session] = field(repr=False)
    broker: "redis.Redis[bytes]" = field(repr=False)
    client: httpx.Client = field(repr=False)

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}

    def count_rings(self, queue: str) -> int:
        """Messages that wait in a Celery queue."""
        return int(self.broker.llen(queue))

    def wait_for_ring(self, queue: str) -> None:
        wait_for(lambda: self.count_rings(queue) > 0, START_SECONDS)

    def list_stored(self, prefix: str = "") -> list[str]:
        return [stat.key for stat in self.storage.list(prefix)]


class ThreadedServer(uvicorn.Server):
    """Uvicorn's own server; a thread cannot take the signals."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, lifespan="on"))
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self.run, args=([self._socket],))

    def __enter__(self) -> "ThreadedServer":
        self._thread.start()
        wait_for(lambda: self.started or not self._thread.is_alive(), START_SECONDS)
        assert self.started, "the API did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.should_exit = True
        self._thread.join(START_SECONDS)
        self._socket.close()
        assert not self._thread.is_alive(), "the API did not stop"


@pytest.fixture
def make_settings(database_url: str, redis_url: str, tmp_path: Path) -> Callable[..., Settings]:
    """Settings for this test's servers; keyword arguments change single ones."""

    def make(**changes: object) -> Settings:
        values: dict[str, object] = {
            "home": tmp_path,
            "database_url": database_url,
            "redis_url": redis_url,
            "storage": str(tmp_path / "storage"),
            "models_dir": tmp_path / "models",
            "api_key": make_api_key(),
            "s3_endpoint_url": None,
            "s3_public_endpoint_url": None,
        }
        return Settings.model_validate({**values, **changes})

    return make


@pytest.fixture
def start_api(
    make_settings: Callable[..., Settings], sessions: sessionmaker[Session], redis_url: str
) -> Iterator[Callable[..., LiveApi]]:
    """Starts one or more APIs over the same servers; they end with the test."""
    started: list[tuple[ThreadedServer, httpx.Client]] = []
    broker = redis.Redis.from_url(redis_url)

    def start(**changes: object) -> LiveApi:
        settings = make_settings(**changes)
        assert settings.api_key is not None
        app, key = create_app(settings), settings.api_key.get_secret_value()
        server = ThreadedServer(app).__enter__()
        client = httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
        started.append((server, client))
        storage = open_storage(settings.storage_location, s3_endpoint_url=settings.s3_endpoint_url)
        return LiveApi(server.url, app, settings, key, storage, sessions, broker, client)

    yield start
    for server, client in started:
        client.close()
        server.__exit__()
    broker.close()


@pytest.fixture
def api(start_api: Callable[..., LiveApi]) -> LiveApi:
    return start_api()


@pytest.fixture
def client(api: LiveApi) -> httpx.Client:
    return api.client
