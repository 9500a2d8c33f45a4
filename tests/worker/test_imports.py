"""Imports are checked by the real program, on a real database and a real store."""

import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save, save_file
from sqlalchemy import delete
from sqlalchemy.orm import Session, sessionmaker

from core.db import adapter_merges
from core.db import adapters as db
from core.db.models import upsert_model
from core.db.session import make_sessions, open_engine
from core.db.tables import DEFAULT_TENANT, Adapter, Model
from core.domain.adapter_merge import Merge, MergeSource
from core.domain.artifacts import Artifact, adapter_upload_key
from core.domain.audit import Action
from core.domain.ids import new_id
from core.domain.model import ModelInfo
from core.domain.states import ModelStatus
from core.settings import Settings
from core.storage import Storage, open_storage
from tests.fixtures.bases import write_random_base
from tests.worker.conftest import Start, wait_until
from tests.worker.engine.adapter_files.test_importing import draw, rename_as_lycoris
from worker import program
from worker.consumer import Consumer
from worker.engine.adapter_files.formats import Tensors, to_kohya
from worker.engine.bases.inspection import inspect, write_card
from worker.engine.families.registry import build_networks
from worker.imports import AdapterImport

pytestmark = pytest.mark.usefixtures("warm_programs")

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
    settings: Settings, sessions: sessionmaker[Session], storage: Storage, info: ModelInfo, tensors: Tensors,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(program, "POLL_SECONDS", 0.02)  # sooner than it can be ready
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


def test_a_merge_is_made_from_the_files_of_others(
    importer: AnyConsumer, sessions: sessionmaker[Session], storage: Storage, info: ModelInfo, tensors: Tensors
) -> None:
    """By the real programs; it loads as the imports do, and stays when they go."""
    sources = [send(sessions, storage, info, save(tensors)) for _ in range(2)]
    while importer.run_next():
        pass
    merged, resized = (request_merge(sessions, sources, **asked) for asked in ({}, {"method": "svd", "rank": 2}))
    while importer.run_next():
        pass
    row = read(sessions, merged)
    assert row.status == "ready" and row.merge is not None, row.error
    assert (row.type, row.rank, row.trigger, set(row.files)) == ("locon", 8, "a", {"kohya", "diffusers"})
    assert row.merge["error"]["total"] < 1e-3 and len(row.merge["error"]["layers"]) == len(tensors) // 3
    assert all(proof["tools"][0]["verdict"] == "same" for proof in row.proofs.values()), row.proofs
    cut = read(sessions, resized)
    assert cut.merge is not None and (cut.rank, cut.merge["rank"]) == (2, 2) and cut.merge["error"]["total"] > 0.1
    for source in sources:
        with sessions.begin() as session:
            db.delete_adapter(session, DEFAULT_TENANT, source)
        storage.delete_prefix(f"adapters/{source}/")
    assert {file["key"] for file in row.files.values()} == {s.key for s in storage.list(f"adapters/{merged}")}


def test_a_merge_whose_source_is_lost_says_so(
    importer: AnyConsumer, sessions: sessionmaker[Session], storage: Storage, info: ModelInfo, tensors: Tensors
) -> None:
    source = send(sessions, storage, info, save(tensors))
    assert importer.run_next()
    merged = request_merge(sessions, [source])
    storage.put(read(sessions, source).files["kohya"]["key"], b"another file")
    assert importer.run_next()
    row = read(sessions, merged)
    assert row.status == "rejected" and row.error is not None
    assert row.error["detail"] == f"The file of {source} was damaged in storage: merge the others without it."


def request_merge(sessions: sessionmaker[Session], sources: list[str], **asked: Any) -> str:
    with sessions.begin() as session:
        rows = adapter_merges.keep_sources(session, DEFAULT_TENANT, sources)
        stack = tuple(MergeSource(id=one, name="a", weight=0.5) for one in sources)
        merge = Merge(**{"method": "concat", "sources": stack, "expected_bytes": 1, **asked})
        return adapter_merges.insert_merge(
            session,
            [rows[one] for one in sources],
            merge,
            name="both",
            trigger="a",
            tags=(),
            action=Action.ADAPTER_MERGED,
        ).id


# --- extractions ----------------------------------------------------------------------------------------------


def test_an_extraction_reads_only_the_bases_that_were_registered(
    importer: AnyConsumer, sessions: sessionmaker[Session], settings: Settings, info: ModelInfo
) -> None:
    folder = settings.models_path / "tuned"
    tuned = tune(settings.models_path / "base", folder, 0.1)
    register(sessions, folder, tuned)
    made, waiting, late = (request_extraction(sessions, info, tuned) for _ in range(3))
    assert importer.run_next()
    assert read(sessions, made).status == "ready", read(sessions, made).error

    changed = tune(settings.models_path / "base", folder, 0.2)
    write_card(folder, tuned)  # the files alone are others
    assert importer.run_next()
    assert "the files of the base tuned are not those that were registered" in reason(sessions, waiting)

    write_card(folder, changed)
    register(sessions, folder, changed)
    assert importer.run_next()
    assert reason(sessions, late) == "The base model tuned was replaced after this was planned: submit it again."

    gone = request_extraction(sessions, info, changed)
    with sessions.begin() as session:
        session.execute(delete(Model).where(Model.id == "tuned"))
    assert importer.run_next()
    assert "The base model tuned was removed" in reason(sessions, gone)


def test_an_extraction_waits_for_a_worker_with_the_registered_base(
    importer: AnyConsumer, sessions: sessionmaker[Session], settings: Settings, info: ModelInfo
) -> None:
    folder = settings.models_path / "tuned"
    tuned = tune(settings.models_path / "base", folder, 0.1)
    register(sessions, folder, tuned)
    made = request_extraction(sessions, info, tuned)
    write_card(folder, tuned.model_copy(update={"sha256": "0" * 64}))  # this worker's copy is old
    assert importer.run_next()
    row = read(sessions, made)
    assert row.status == "checking" and row.waiting_reason is not None


def test_an_extraction_waits_while_its_base_is_registered_again(
    importer: AnyConsumer, sessions: sessionmaker[Session], settings: Settings, info: ModelInfo
) -> None:
    folder = settings.models_path / "tuned"
    tuned = tune(settings.models_path / "base", folder, 0.1)
    register(sessions, folder, tuned)
    made = request_extraction(sessions, info, tuned)
    with sessions.begin() as session:
        session.get_one(Model, "tuned").status = ModelStatus.CHECKING
    assert importer.run_next()
    row = read(sessions, made)
    assert row.status == "checking"
    assert "The base model tuned is being registered again." in (row.waiting_reason or "")


def tune(base: Path, folder: Path, amount: float) -> ModelInfo:
    """Another base in the folder, and its card."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    (file,) = (folder / "unet").glob("*.safetensors")
    weights = {key: each + amount if "to_q" in key else each for key, each in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    card = inspect(folder, model_id="tuned")
    write_card(folder, card)
    return card


def register(sessions: sessionmaker[Session], folder: Path, card: ModelInfo) -> None:
    with sessions.begin() as session:
        upsert_model(session, card, location=str(folder))


def request_extraction(sessions: sessionmaker[Session], base: ModelInfo, tuned: ModelInfo) -> str:
    source = MergeSource(id=tuned.id, name=tuned.id, weight=1.0, sha256=tuned.sha256)
    merge = Merge(method="extract", rank=2, sources=(source,), expected_bytes=1 << 20)
    with sessions.begin() as session:
        return adapter_merges.insert_extraction(session, DEFAULT_TENANT, base, merge, name="a", trigger="", tags=()).id


def reason(sessions: sessionmaker[Session], adapter_id: str) -> str:
    row = read(sessions, adapter_id)
    assert row.status == "rejected" and row.error is not None
    return str(row.error["detail"])
