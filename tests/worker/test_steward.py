"""Real stewards over a real PostgreSQL and a real broker."""

import socket
from collections.abc import Callable
from datetime import timedelta

import pytest
import redis
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from cli.local.programs import cpu_worker_command, steward_command
from core.db.steward import count_due_jobs
from core.db.tables import DEFAULT_TENANT, Dataset, IdempotencyRecord, Job, Model
from core.domain.ids import new_id
from core.domain.states import DatasetStatus, JobStatus
from core.storage import Storage
from tests.fixtures.datasets import read, upload
from tests.fixtures.pictures import png
from tests.fixtures.servers import PostgresHandle
from tests.worker.conftest import Running, Start, wait_until

Sessions = sessionmaker[Session]
LEADS = "this steward leads"


@pytest.fixture
def steward(start: Start) -> Callable[..., Running]:
    return lambda **variables: start(*steward_command(), **variables)


def seconds_from_now(seconds: float) -> object:
    return func.clock_timestamp() + timedelta(seconds=seconds)


def hold(sessions: Sessions, dataset_id: str, lease_seconds: float) -> None:
    with sessions.begin() as session:
        lease = seconds_from_now(lease_seconds)
        session.execute(update(Dataset).where(Dataset.id == dataset_id).values(attempt=1, lease_until=lease))


def insert_job(sessions: Sessions, dataset_id: str, **values: object) -> str:
    job_id = new_id("job")
    with sessions.begin() as session:
        session.merge(Model(id="tiny", status="ready", location="nowhere", info={}))
        session.flush()
        job = Job(
            id=job_id, tenant_id=DEFAULT_TENANT, model_id="tiny", dataset_id=dataset_id, spec={}, plan={}, estimate={},
            **{"status": JobStatus.QUEUED, **values},
        )  # fmt: skip
        session.add(job)
    return job_id


def read_job(sessions: Sessions, job_id: str) -> Job:
    with sessions() as session:
        return session.get_one(Job, job_id)


def test_a_lost_ring_is_rung_again(
    steward: Callable[..., Running], start: Start, sessions: Sessions, storage: Storage
) -> None:
    """Nobody rang for this one."""
    dataset_id = upload(sessions, storage, {"a.png": png(1)})
    worker = start(*cpu_worker_command())
    steward()

    wait_until(lambda: read(sessions, dataset_id).status == DatasetStatus.READY, lambda: worker.log)


def test_expired_idempotency_keys_are_forgotten(steward: Callable[..., Running], sessions: Sessions) -> None:
    with sessions.begin() as session:
        for key, days in (("old", -1.01), ("new", -0.99)):
            made = {"tenant_id": DEFAULT_TENANT, "route": "POST /jobs", "body_sha256": "0", "resource_id": "job_0"}
            session.add(IdempotencyRecord(key=key, created_at=seconds_from_now(days * 86_400), **made))

    def list_keys() -> list[str]:
        with sessions() as session:
            return list(session.scalars(select(IdempotencyRecord.key)))

    process = steward()
    wait_until(lambda: list_keys() == ["new"], lambda: process.log)


def test_takes_back_what_silent_workers_hold_and_rings(
    steward: Callable[..., Running], sessions: Sessions, storage: Storage, broker: redis.Redis
) -> None:
    silent, alive = upload(sessions, storage, {}), upload(sessions, storage, {})
    hold(sessions, silent, lease_seconds=-1)
    hold(sessions, alive, lease_seconds=600)
    job_id = insert_job(sessions, alive, status=JobStatus.RUNNING, attempt=1, lease_until=seconds_from_now(-1))
    process = steward(ATELIER_RING_SECONDS="600")
    process.wait_for(f"{silent} was taken back from its worker at attempt 1")
    process.wait_for(f"{job_id} was taken back")

    wait_until(lambda: broker.llen("cpu") >= 1 and broker.llen("train") >= 1)
    assert read(sessions, silent).lease_until is None
    assert read(sessions, alive).lease_until is not None
    assert read_job(sessions, job_id).status == JobStatus.QUEUED
    assert process.terminate() == 0


def test_rings_for_due_jobs_and_not_for_others(
    sessions: Sessions, storage: Storage, steward: Callable[..., Running], broker: redis.Redis
) -> None:
    dataset_id = upload(sessions, storage, {})
    hold(sessions, dataset_id, lease_seconds=600)
    for run_after in (-1, -1, 600):
        insert_job(sessions, dataset_id, run_after=seconds_from_now(run_after))
    insert_job(sessions, dataset_id, status=JobStatus.PAUSED)
    with sessions() as session:
        assert count_due_jobs(session) == 2

    steward(ATELIER_RING_SECONDS="600").wait_for(LEADS)

    wait_until(lambda: broker.llen("train") == 2)
    assert broker.llen("cpu") == 0


def test_rings_every_queue_now_and_then(steward: Callable[..., Running], broker: redis.Redis) -> None:
    """Nothing waits; idle workers want to know whether they still hear."""
    steward(ATELIER_RING_SECONDS="0.2")

    wait_until(lambda: broker.llen("train") >= 2 and broker.llen("cpu") >= 2)


def test_one_leads_and_the_next_takes_over(steward: Callable[..., Running]) -> None:
    first = steward()
    first.wait_for(LEADS)
    second, third = steward(), steward()
    for process in (second, third):
        process.wait_for("another steward leads")
    assert third.terminate() == 0, "one that stands by ends as well"

    first.kill()

    second.wait_for(LEADS)
    assert second.terminate() == 0


@pytest.mark.parametrize("listening", [False, True], ids=["refused", "silent"])
def test_a_broker_that_is_away_keeps_no_steward_from_its_work(
    steward: Callable[..., Running], sessions: Sessions, storage: Storage, listening: bool
) -> None:
    dataset_id = upload(sessions, storage, {})
    hold(sessions, dataset_id, lease_seconds=-1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not listening:
            server.close()
        process = steward(REDIS_URL=f"redis://127.0.0.1:{port}/0")

        process.wait_for(f"{dataset_id} was taken back")
        process.wait_for("were not all rung")


def test_after_an_outage_of_the_database_workers_get_one_lease_to_come_back(
    steward: Callable[..., Running], sessions: Sessions, storage: Storage, postgres: PostgresHandle
) -> None:
    """Leases ran out while nobody could renew them. One worker comes back in time, one does not."""
    back, gone = upload(sessions, storage, {}), upload(sessions, storage, {})
    process = steward(ATELIER_LEASE_SECONDS="6")
    process.wait_for(LEADS)
    for dataset_id in (back, gone):
        hold(sessions, dataset_id, lease_seconds=-1)
    postgres.kill()
    process.wait_for("the database is unreachable")
    postgres.start()
    process.wait_for(LEADS, count=2)
    hold(sessions, back, lease_seconds=600)

    process.wait_for(f"{gone} was taken back")

    assert f"{back} was taken back" not in process.log
    assert process.log.index("was taken back") > process.log.rindex(LEADS)


def test_it_needs_its_settings(start: Start) -> None:
    process = start(*steward_command(), DATABASE_URL="")
    assert process.popen.wait(60) != 0
