"""A ring reaches the worker, and nothing depends on how often."""

import socket
from pathlib import Path

import pytest
import redis
from sqlalchemy.orm import Session, sessionmaker

from cli.local.programs import cpu_worker_command
from core.domain.states import DatasetStatus
from core.doorbell import MAX_WAITING, CeleryDoorbell
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


def test_the_ring_of_the_api(worker: Running, sessions: Sessions, storage: Storage, redis_url: str) -> None:
    dataset_id = upload(sessions, storage, {"a.png": png(1)})
    bell = CeleryDoorbell(redis_url)
    bell.ring("validate")

    wait_until(lambda: is_ready(sessions, dataset_id), lambda: worker.log)
    bell.close()


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


# --- the doorbell alone --------------------------------------------------------------------------------


def test_a_bell_that_waits_stands_for_all_that_are_rung_meanwhile(broker: redis.Redis, redis_url: str) -> None:
    bell = CeleryDoorbell(redis_url)
    broker.client_pause(500)
    for _ in range(50):
        bell.ring("train")
    bell.close()

    assert broker.llen("train") in {1, 2}, "one under way, one for all the others"


def test_a_ring_for_several_workers(broker: redis.Redis, redis_url: str) -> None:
    bell = CeleryDoorbell(redis_url)
    bell.ring("train", 3)
    bell.close()

    assert broker.llen("train") == 3


def test_a_ring_reaches_an_emptied_broker(broker: redis.Redis, redis_url: str) -> None:
    bell = CeleryDoorbell(redis_url)
    for _ in range(2):
        broker.flushall()
        bell.ring("train")
        wait_until(lambda: broker.llen("train") == 1)


def test_a_queue_that_nobody_reads_does_not_grow_for_ever(broker: redis.Redis, redis_url: str) -> None:
    bell = CeleryDoorbell(redis_url)
    for expected in range(1, MAX_WAITING + 1):
        bell.ring("validate")
        wait_until(lambda: broker.llen("cpu") == expected)  # noqa: B023
    for _ in range(10):
        bell.ring("validate")
    bell.ring("train")
    wait_until(lambda: broker.llen("train") == 1)

    assert broker.llen("cpu") == MAX_WAITING


def test_rings_are_forgotten_when_the_broker_is_away(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    bell = CeleryDoorbell(f"redis://127.0.0.1:{port}/0")
    for _ in range(3 * MAX_WAITING):
        bell.ring("train")

    wait_until(lambda: "the bell train was not rung" in caplog.text)
