"""A ring reaches the worker, and nothing depends on how often."""

from pathlib import Path

import pytest
import redis
from sqlalchemy.orm import Session, sessionmaker

from cli.local.programs import cpu_worker_command
from core.domain.states import DatasetStatus
from core.doorbell import CeleryDoorbell
from core.storage import Storage
from tests.fixtures.datasets import read, upload
from tests.fixtures.pictures import png
from tests.fixtures.servers import ValkeyHandle
from tests.worker.conftest import Running, Start, wait_until

Sessions = sessionmaker[Session]


@pytest.fixture
def worker(start: Start) -> Running:
    worker = start(*cpu_worker_command())
    worker.wait_for("ready.")
    return worker


def is_ready(sessions: Sessions, dataset_id: str) -> bool:
    return read(sessions, dataset_id).status == DatasetStatus.READY


def test_rings_single_double_and_in_vain(
    worker: Running, sessions: Sessions, storage: Storage, broker: redis.Redis, redis_url: str
) -> None:
    bell = CeleryDoorbell(redis_url)
    bell.ring("validate")
    worker.wait_for("succeeded")
    assert "Traceback" not in worker.log

    ids = [upload(sessions, storage, {"a.png": png(number)}) for number in range(3)]
    for _ in range(5):
        bell.ring("validate")

    wait_until(lambda: all(is_ready(sessions, dataset_id) for dataset_id in ids), lambda: worker.log)
    wait_until(lambda: broker.llen("cpu") == 0)
    assert [read(sessions, dataset_id).attempt for dataset_id in ids] == [1, 1, 1]


def test_the_worker_hears_again_after_the_broker_was_killed(
    worker: Running, sessions: Sessions, storage: Storage, valkey: ValkeyHandle, redis_url: str
) -> None:
    valkey.kill()
    worker.wait_for("Connection to broker lost")
    bell = CeleryDoorbell(redis_url)
    bell.ring("validate")
    valkey.start()
    dataset_id = upload(sessions, storage, {"a.png": png(1)})

    def rung_until_ready() -> bool:
        bell.ring("validate")
        return is_ready(sessions, dataset_id)

    wait_until(rung_until_ready, lambda: worker.log)


def test_a_drain_gives_a_dataset_back_in_the_middle(
    worker: Running, sessions: Sessions, storage: Storage, redis_url: str, tmp_path: Path
) -> None:
    dataset_id = upload(sessions, storage, {f"{number}.png": png(number, 256, 256) for number in range(150)})
    CeleryDoorbell(redis_url).ring("validate")
    images = tmp_path / "storage" / "datasets" / dataset_id / "images"
    wait_until(images.exists, lambda: worker.log)

    assert worker.terminate() == 0

    dataset = read(sessions, dataset_id)
    assert (dataset.status, dataset.attempt, dataset.lease_until) == (DatasetStatus.VALIDATING, 0, None)
    assert list(tmp_path.glob("atelier-validation-*")) == []
