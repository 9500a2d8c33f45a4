"""What the doorbell sends to the broker."""

import socket
import time

import pytest
import redis

from core.doorbell import MAX_WAITING, PAUSE_SECONDS, CeleryDoorbell
from tests.fixtures.servers import wait_for


def test_a_bell_that_waits_stands_for_all_that_are_rung_meanwhile(broker: redis.Redis, redis_url: str) -> None:
    bell = CeleryDoorbell(redis_url)
    broker.client_pause(500)
    for _ in range(50):
        bell.ring("train")
    bell.close()

    assert broker.llen("train") in {1, 2}, "one under way, one for all the others"


def test_rings_one_after_the_other_share_connections(broker: redis.Redis, redis_url: str) -> None:
    bell, began = CeleryDoorbell(redis_url), time.monotonic()
    while time.monotonic() < began + 0.6:
        bell.ring("train")
        time.sleep(0.002)
    bell.close()

    assert broker.llen("train") <= (time.monotonic() - began) / PAUSE_SECONDS + 2


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
        wait_for(lambda: broker.llen("train") == 1)


def test_a_queue_that_nobody_reads_does_not_grow_for_ever(broker: redis.Redis, redis_url: str) -> None:
    bell = CeleryDoorbell(redis_url)
    for expected in range(1, MAX_WAITING + 1):
        bell.ring("validate")
        wait_for(lambda: broker.llen("cpu") == expected)  # noqa: B023
    for _ in range(10):
        bell.ring("validate", 10)
    bell.ring("train")
    wait_for(lambda: broker.llen("train") == 1)

    assert broker.llen("cpu") == MAX_WAITING


def test_rings_are_forgotten_when_the_broker_is_away(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    bell = CeleryDoorbell(f"redis://127.0.0.1:{port}/0")
    for _ in range(3 * MAX_WAITING):
        bell.ring("train")

    wait_for(lambda: "the bells train were not all rung" in caplog.text)
