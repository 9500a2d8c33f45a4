"""Imports are checked by the real program, on a real database and a real store."""

import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save
from sqlalchemy.orm import Session, sessionmaker

from core.db import adapters as db
from core.db.models import upsert_model
from core.db.session import make_sessions, open_engine
from core.db.tables import DEFAULT_TENANT, Adapter
from core.domain.artifacts import Artifact, adapter_upload_key
from core.domain.ids import new_id
from core.domain.model import ModelInfo
from core.settings import Settings
from core.storage import Storage, open_storage
from tests.fixtures.bases import write_random_base
from tests.worker.conftest import Start, wait_until
from tests.worker.engine.adapter_files.test_importing import draw, rename_as_lycoris
from worker import program
from worker.consumer import Consumer
from worker.engine.adapter_files.formats import Tensors, to_kohya
from worker.engine.families.registry import build_networks
from worker.imports import AdapterImport

AnyConsumer = Consumer[Any, Any]


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home", database_url=database_url, redis_url="redis://nowhere",
        storage=str(tmp_path / "storage"), lease_seconds=60, heartbeat_seconds=0.2,
    )  # fmt: skip


@pytest.fixture
def info(settings: Settings, sessions: sessionmaker[Session]) -> ModelInfo:
    info = write_random_base(settings.models_path / "base")
    with sessions.begin() as session:
        upsert_model(session, info, location=str(settings.models_path / "base"))
    return info


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return open_storage(settings.storage_location)


@pytest.fixture
def importer(settings: Settings, storage: Storage) -> AnyConsumer:
    sessions = make_sessions(open_engine(settings.database_url, pool_size=2))
    return Consumer(AdapterImport, settings, sessions, storage, threading.Event())


@pytest.fixture
def tensors(settings: Settings, info: ModelInfo) -> Tensors:
    return to_kohya(draw(build_networks("sd1", settings.models_path / "base"), "locon"))


def send(sessions: sessionmaker[Session], storage: Storage, info: ModelInfo, content: bytes) -> str:
    adapter_id = new_id("ad")
    stored = storage.put(adapter_upload_key(adapter_id), content)
    upload = Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)
    with sessions.begin() as session:
        db.insert_import(
            session, adapter_id=adapter_id, tenant_id=DEFAULT_TENANT, model=info, upload=upload, name="a",
            trigger="", tags=(),
        )  # fmt: skip
    return adapter_id


def read(sessions: sessionmaker[Session], adapter_id: str) -> Adapter:
    with sessions() as session:
        return db.get_adapter(session, DEFAULT_TENANT, adapter_id)


def test_imports_end_as_ready_or_with_the_reason(
    importer: AnyConsumer, sessions: sessionmaker[Session], storage: Storage, info: ModelInfo, tensors: Tensors
) -> None:
    unet = {key: value for key, value in tensors.items() if key.startswith("lora_unet_")}
    good = send(sessions, storage, info, save(rename_as_lycoris(unet), {"modelspec.trigger_phrase": "ink"}))
    name = next(iter(tensors)).partition(".")[0]
    bad = send(sessions, storage, info, save({f"{name}.hada_w1_a": tensors[next(iter(tensors))]}))
    while importer.run_next():
        pass
    row = read(sessions, good)
    assert (row.status, row.type, row.rank, row.trigger, row.error) == ("ready", "locon", 4, "ink", None)
    assert {file["key"] for file in row.files.values()} == {s.key for s in storage.list(f"adapters/{good}")}
    assert set(row.files) == set(row.proofs) == {"kohya", "diffusers"}
    row = read(sessions, bad)
    assert row.status == "rejected" and row.error is not None and "LoHa" in row.error["detail"]
    assert list(storage.list(f"adapters/{bad}")) == []


@pytest.mark.slow
def test_a_worker_that_ends_leaves_the_import_to_the_next(
    settings: Settings, sessions: sessionmaker[Session], storage: Storage, info: ModelInfo, tensors: Tensors
) -> None:
    adapter_id, drain = send(sessions, storage, info, save(tensors)), threading.Event()
    ending = Consumer(AdapterImport, settings, sessions, storage, drain)
    threading.Timer(program.POLL_SECONDS / 2, drain.set).start()
    ending.run_next()
    row = read(sessions, adapter_id)
    assert (row.status, row.attempt, row.lease_until) == ("checking", 0, None)
    assert Consumer(AdapterImport, settings, sessions, storage, threading.Event()).run_next()
    assert read(sessions, adapter_id).status == "ready"


def test_a_deleted_import_leaves_nothing_behind(
    importer: AnyConsumer, sessions: sessionmaker[Session], storage: Storage, info: ModelInfo, tensors: Tensors,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    adapter_id = send(sessions, storage, info, save(tensors))
    upload = AdapterImport._upload

    def upload_late(*given: object) -> Artifact:
        with sessions.begin() as session:
            row = session.get(Adapter, adapter_id)
            if row is not None:
                session.delete(row)
        return upload(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(AdapterImport, "_upload", upload_late)
    assert importer.run_next()
    assert list(storage.list(f"adapters/{adapter_id}")) == []


def test_an_import_waits_for_a_worker_that_has_its_base(
    importer: AnyConsumer, sessions: sessionmaker[Session], storage: Storage, info: ModelInfo, tensors: Tensors,
    settings: Settings,
) -> None:  # fmt: skip
    base, away = settings.models_path / "base", settings.models_path / ".base.old"
    base.rename(away)
    adapter_id = send(sessions, storage, info, save(tensors))
    assert importer.run_next()
    row = read(sessions, adapter_id)
    assert (row.status, row.attempt, row.lease_until, row.error, row.num_deferrals) == ("checking", 0, None, None, 1)
    assert row.waiting_reason is not None and f"no base model {info.id}" in row.waiting_reason
    assert not importer.run_next(), "it is not due yet"
    away.rename(base)
    with sessions.begin() as session:
        session.get_one(Adapter, adapter_id).run_after = None
    assert importer.run_next()
    row = read(sessions, adapter_id)
    assert (row.status, row.waiting_reason) == ("ready", None), row.error


@pytest.mark.slow
def test_an_import_outlives_a_killed_worker(
    start: Start, storage: Storage, sessions: sessionmaker[Session], info: ModelInfo, tensors: Tensors
) -> None:
    """The whole of it: the steward takes the lease back and rings, and another worker checks."""
    adapter_id = send(sessions, storage, info, save(tensors))
    command = (sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker", "-Q", "cpu", "-P", "prefork")
    options = ("-c", "1", "--without-mingle", "--without-gossip", "--loglevel", "INFO")
    start(sys.executable, "-m", "worker.steward")
    first = start(*command, *options, "-n", "first@%h")
    wait_until(lambda: read(sessions, adapter_id).lease_until is not None, lambda: first.log)
    first.popen.send_signal(signal.SIGKILL)
    second = start(*command, *options, "-n", "second@%h")
    wait_until(lambda: read(sessions, adapter_id).status == "ready", lambda: second.log, 180)
