"""Checks are answered by the real program, on a real database and a real store."""

import threading
from typing import Any

import pytest
from safetensors.torch import save
from sqlalchemy.orm import Session, sessionmaker

from core.db import adapter_checks
from core.db import adapters as db
from core.db.session import make_sessions, open_engine
from core.db.tables import DEFAULT_TENANT, AdapterCheck
from core.domain.model import ModelInfo
from core.settings import Settings
from core.storage import Storage
from tests.worker.test_imports import importer, info, read, send, settings, storage, tensors
from worker.checks import AdapterChecking
from worker.consumer import Consumer
from worker.engine.adapter_files.formats import Tensors

pytestmark = pytest.mark.usefixtures("warm_programs")

__all__ = ["importer", "info", "settings", "storage", "tensors"]

AnyConsumer = Consumer[Any, Any]


@pytest.fixture
def checker(settings: Settings, storage: Storage) -> AnyConsumer:
    sessions = make_sessions(open_engine(settings.database_url, pool_size=2))
    return Consumer(AdapterChecking, settings, sessions, storage, threading.Event())


def request(sessions: sessionmaker[Session], info: ModelInfo, *adapters: str) -> str:
    with sessions.begin() as session:
        return adapter_checks.insert_check(session, DEFAULT_TENANT, adapters, info).id


def find(sessions: sessionmaker[Session], check_id: str) -> AdapterCheck:
    with sessions() as session:
        return adapter_checks.get_check(session, DEFAULT_TENANT, check_id)


def test_adapters_are_compared(
    checker: AnyConsumer, importer: AnyConsumer, sessions: sessionmaker[Session], storage: Storage, info: ModelInfo,
    tensors: Tensors,
) -> None:  # fmt: skip
    opposite = {key: -value if "lora_up" in key else value for key, value in tensors.items()}
    ids = [send(sessions, storage, info, save(content)) for content in (tensors, opposite)]
    while importer.run_next():
        pass
    check_id = request(sessions, info, *ids)
    assert checker.run_next() and not checker.run_next()
    row = find(sessions, check_id)
    assert row.status == "done" and row.result is not None, row.error
    assert [one["same_base"] for one in row.result["adapters"]] == [True, True]
    [pair] = row.result["pairs"]
    assert (pair["cosine"], pair["relation"], pair["adapters"]) == (pytest.approx(-1, abs=1e-3), "fight", ids)
    assert len(pair["layers"]) == len(tensors) // 3


def test_what_is_lost_is_named(
    checker: AnyConsumer, importer: AnyConsumer, sessions: sessionmaker[Session], storage: Storage, info: ModelInfo,
    tensors: Tensors,
) -> None:  # fmt: skip
    first, second = (send(sessions, storage, info, save(tensors)) for _ in range(2))
    while importer.run_next():
        pass
    lost, deleted = request(sessions, info, first), request(sessions, info, second)
    storage.delete(read(sessions, first).files["kohya"]["key"])
    with sessions.begin() as session:
        db.delete_adapter(session, DEFAULT_TENANT, second)
    assert checker.run_next() and checker.run_next()
    details = [(find(sessions, one).error or {})["detail"] for one in (lost, deleted)]
    assert details[0] == f"The file of {first} is gone from storage: leave it out."
    assert details[1] == f"{second} was deleted before the check: leave it out."


def test_a_check_waits_for_a_worker_that_has_its_base(
    checker: AnyConsumer, importer: AnyConsumer, sessions: sessionmaker[Session], storage: Storage, info: ModelInfo,
    tensors: Tensors, settings: Settings,
) -> None:  # fmt: skip
    adapter_id = send(sessions, storage, info, save(tensors))
    assert importer.run_next()
    (settings.models_path / "base").rename(settings.models_path / ".away")
    check_id = request(sessions, info, adapter_id)
    assert checker.run_next()
    row = find(sessions, check_id)
    assert (row.status, row.attempt, row.num_deferrals) == ("checking", 0, 1)
    assert row.waiting_reason is not None and "no base model" in row.waiting_reason
