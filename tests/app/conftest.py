"""A real API on a real server in a thread, over PostgreSQL, Valkey and a directory store.

``api`` is one server for all tests, seen through a tenant and a key of the test's own; ``start_api`` starts
others, for tests that need other settings, the operator's key, or to break something.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import redis
import uvicorn
from fastapi import FastAPI
from sqlalchemy.orm import Session, sessionmaker

from app.main import create_app
from app.services import Services
from core.db.session import make_sessions, open_engine
from core.db.tables import DEFAULT_TENANT, ApiKey, Tenant
from core.domain.ids import new_id
from core.domain.keys import hash_api_key, make_api_key
from core.settings import Settings
from core.storage import Storage, open_storage
from tests.fixtures.database import fresh_database, in_database
from tests.fixtures.servers import PostgresHandle, ValkeyHandle, wait_for

if TYPE_CHECKING:
    from tests.app.uploader import Uploader
    from tests.fixtures.running_api import RunningApi

START_SECONDS = 60


@dataclass(frozen=True)
class LiveApi:
    """A server, and a client of it with the key of one tenant."""

    url: str
    app: FastAPI = field(repr=False)
    settings: Settings = field(repr=False)
    storage: Storage = field(repr=False)
    sessions: sessionmaker[Session] = field(repr=False)
    broker: "redis.Redis[bytes]" = field(repr=False)
    tenant_id: str
    api_key: str = field(repr=False)
    client: httpx.Client = field(repr=False)

    @classmethod
    def of_process(cls, api: "RunningApi", client: httpx.Client) -> "LiveApi":
        """An API that is a process of its own, with its operator's key. ``app`` is not the one that it runs."""
        return cls(
            url=api.url, app=FastAPI(), settings=Settings.model_validate(api.env), storage=api.storage,
            sessions=api.sessions, broker=api.broker, tenant_id=DEFAULT_TENANT, api_key=api.api_key, client=client,
        )  # fmt: skip

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}

    def wait_for_ring(self, queue: str) -> None:
        """Takes a message out of a Celery queue as soon as there is one."""
        wait_for(lambda: self.broker.lpop(queue), START_SECONDS)

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


@contextmanager
def serve(settings: Settings, database_url: str) -> Iterator[LiveApi]:
    """With the operator's key, until the block ends. ``sessions`` see every tenant, as the workers' do."""
    assert settings.api_key is not None
    app, key = create_app(settings), settings.api_key.get_secret_value()
    engine = open_engine(database_url)
    broker = redis.Redis.from_url(settings.redis_url)
    with ThreadedServer(app) as server, open_client(server.url, key) as client, broker:
        yield LiveApi(
            url=server.url,
            app=app,
            settings=settings,
            storage=open_storage(settings.storage_location, s3_endpoint_url=settings.s3_endpoint_url),
            sessions=make_sessions(engine),
            broker=broker,
            tenant_id=DEFAULT_TENANT,
            api_key=key,
            client=client,
        )
    engine.dispose()


def workers_url(api: LiveApi) -> str:
    """The address of its database for those who see every tenant."""
    engine = api.sessions.kw["bind"]
    return str(engine.url.render_as_string(hide_password=False))


def open_client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def make_settings(database_url: str, redis_url: str, home: Path, /, **changes: object) -> Settings:
    values: dict[str, object] = {
        "home": home,
        "database_url": database_url,
        "redis_url": redis_url,
        "storage": str(home / "storage"),
        "models_dir": home / "models",
        "api_key": make_api_key(),
        "s3_endpoint_url": None,
        "s3_public_endpoint_url": None,
        # All tests come from one address, and hurry.
        "rate_per_minute": 1_000_000,
        "rate_burst": 1_000_000,
        "failures_per_minute": 1_000_000,
    }
    return Settings.model_validate({**values, **changes})


@pytest.fixture(scope="session")
def shared_api(
    postgres: PostgresHandle, template_database: str, valkey: ValkeyHandle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveApi]:
    home = tmp_path_factory.mktemp("shared-api")
    with fresh_database(postgres, template_database) as name:
        settings = make_settings(in_database(postgres.url_api, name), valkey.url, home)
        with serve(settings, in_database(postgres.url_app, name)) as api:
            yield api


@contextmanager
def as_tenant(api: LiveApi) -> Iterator[LiveApi]:
    """The same server through the key of a new tenant."""
    key, tenant_id = make_api_key(), new_id("ten")
    with api.sessions.begin() as session:
        session.add(Tenant(id=tenant_id, name="of a test"))
        session.flush()
        add_key(session, tenant_id, key)
    with open_client(api.url, key) as client:
        yield replace(api, tenant_id=tenant_id, api_key=key, client=client)


def add_key(session: Session, tenant_id: str, key: str, *scopes: str) -> None:
    """With the default scopes, if none are named."""
    given = {"scopes": list(scopes)} if scopes else {}
    row = ApiKey(id=new_id("key"), tenant_id=tenant_id, name="k", prefix=key[:8], sha256=hash_api_key(key), **given)
    session.add(row)


@contextmanager
def with_scopes(api: LiveApi, *scopes: str) -> Iterator[LiveApi]:
    """The same tenant through a key of these scopes."""
    key = make_api_key()
    with api.sessions.begin() as session:
        add_key(session, api.tenant_id, key, *scopes)
    with open_client(api.url, key) as client:
        yield replace(api, api_key=key, client=client)


@pytest.fixture
def admin(api: LiveApi) -> Iterator[LiveApi]:
    """The tenant of ``api`` through a key that may do everything of it."""
    with with_scopes(api, "admin") as admin:
        yield admin


@pytest.fixture
def api(shared_api: LiveApi) -> Iterator[LiveApi]:
    with as_tenant(shared_api) as api:
        yield api


@pytest.fixture
def other(shared_api: LiveApi) -> Iterator[LiveApi]:
    """Another tenant on the same server."""
    with as_tenant(shared_api) as api:
        yield api


@pytest.fixture
def start_api(
    api_database_url: str, database_url: str, redis_url: str, tmp_path: Path
) -> Iterator[Callable[..., LiveApi]]:
    """Starts an API over this test's own database, with the operator's key; keyword arguments change settings."""
    with ExitStack() as stack:

        def start(**changes: object) -> LiveApi:
            settings = make_settings(api_database_url, redis_url, tmp_path, **changes)
            return stack.enter_context(serve(settings, str(changes.get("database_url", database_url))))

        yield start


@pytest.fixture
def own_api(start_api: Callable[..., LiveApi]) -> LiveApi:
    return start_api()


@pytest.fixture
def upload(api: LiveApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Uploader":
    from tests.app.uploader import Uploader

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return Uploader(api)
