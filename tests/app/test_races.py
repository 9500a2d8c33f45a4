"""Many requests at the same moment: one job for each key, no place taken twice, one end for each job."""

import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from core.db import quotas
from core.db.tables import Job, JobEvent, UsageDay
from core.domain.limits import Limits
from tests.app.conftest import LiveApi
from tests.app.factory import Worker
from tests.app.test_idempotency import make_body

KEYS, RACERS = 50, 20
NONE: dict[str, int | None] = Limits.unlimited().model_dump()
Send = Callable[[httpx.Client], httpx.Response]


def race(api: LiveApi, rounds: list[list[Send]]) -> list[list[httpx.Response]]:
    """The requests of one round go out at the same moment, each over a connection of its own."""
    size = len(rounds[0])
    barrier = Barrier(size)

    def run(lane: int) -> list[httpx.Response]:
        with httpx.Client(base_url=api.url, headers=api.headers, timeout=120) as client:
            client.get("/healthz")  # connected before the start
            answers = []
            for sends in rounds:
                barrier.wait(120)
                answers.append(sends[lane](client))
            return answers

    with ThreadPoolExecutor(size) as pool:
        lanes = list(pool.map(run, range(size)))
    return [list(answers) for answers in zip(*lanes, strict=True)]


def posting(body: dict[str, Any], key: str | None = None) -> Send:
    headers = {} if key is None else {"Idempotency-Key": key}
    return lambda client: client.post("/jobs", json=body, headers=headers)


def limit(api: LiveApi, **limits: int) -> None:
    with api.sessions.begin() as session:
        quotas.set_limits(session, api.tenant_id, Limits.model_validate({**NONE, **limits}))


def count_jobs(api: LiveApi) -> int:
    with api.sessions() as session:
        return session.scalars(sa.select(sa.func.count()).where(Job.tenant_id == api.tenant_id)).one()


def count_steps(api: LiveApi) -> int:
    with api.sessions() as session:
        return session.scalars(sa.select(UsageDay.steps).where(UsageDay.tenant_id == api.tenant_id)).one()


def statuses(answers: list[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


@pytest.mark.slow
def test_fifty_keys_with_twenty_posts_each(api: LiveApi) -> None:
    """One job for each key, and every answer is that job; exactly as many were reserved."""
    body = make_body(api)
    limit(api, queued_jobs=KEYS)
    keys = [uuid.uuid4().hex for _ in range(KEYS)]
    rounds = race(api, [[posting(body, key)] * RACERS for key in keys])
    for answers in rounds:
        assert statuses(answers) == {201: RACERS}, [answer.text for answer in answers if answer.status_code != 201][:1]
        assert len({answer.text for answer in answers}) == 1
        assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert len({answers[0].json()["id"] for answers in rounds}) == count_jobs(api) == KEYS
    assert count_steps(api) == KEYS * 10


def test_the_last_place_goes_to_one_key_and_its_repeats(api: LiveApi) -> None:
    """Two keys race for it: who gets in does so with all repeats, and the other with none."""
    body = make_body(api)
    limit(api, queued_jobs=1)
    one, two = uuid.uuid4().hex, uuid.uuid4().hex
    [answers] = race(api, [[posting(body, one), posting(body, two)] * (RACERS // 2)])
    won = {answer.request.headers["idempotency-key"] for answer in answers if answer.status_code == 201}
    assert len(won) == 1
    assert statuses(answers) == {201: RACERS // 2, 429: RACERS // 2}
    assert count_jobs(api) == 1


def test_twenty_posts_against_a_quota_of_five(api: LiveApi) -> None:
    body = make_body(api)
    limit(api, queued_jobs=5)
    [answers] = race(api, [[posting(body)] * RACERS])
    assert statuses(answers) == {201: 5, 429: 15}
    assert count_jobs(api) == 5
    assert {answer.json()["type"] for answer in answers if answer.status_code == 429} == {"/problems/quota-exceeded"}


def test_twenty_posts_against_the_steps_of_a_day(api: LiveApi) -> None:
    body = make_body(api)
    limit(api, steps_per_day=79)
    [answers] = race(api, [[posting(body)] * RACERS])
    assert statuses(answers) == {201: 7, 429: 13}
    assert (count_jobs(api), count_steps(api)) == (7, 70)


def test_twenty_uploads_against_full_storage(start_api: Callable[..., LiveApi]) -> None:
    api = start_api(uploads_per_tenant=RACERS)
    dataset = api.client.post("/datasets", json={}).json()["id"]
    limit(api, stored_bytes=1000)

    def put(number: int) -> Send:
        return lambda client: client.put(f"/datasets/{dataset}/files/{number}.txt", content=b"x" * 300)

    [answers] = race(api, [[put(number) for number in range(RACERS)]])
    assert statuses(answers) == {201: 3, 429: 17}
    assert api.client.get("/usage").json()["stored_bytes"] == {"used": 900, "limit": 1000}
    assert len(api.list_stored(f"datasets/{dataset}")) == 3


def test_double_cancels(api: LiveApi) -> None:
    """A queued job ends once, whoever asks how often, and gives its steps back once; a running one is asked once."""
    body = make_body(api)
    ids = [api.client.post("/jobs", json=body).json()["id"] for _ in range(6)]
    for job_id in ids[3:]:
        Worker(api, job_id)

    def cancel(job_id: str) -> Send:
        return lambda client: client.post(f"/jobs/{job_id}/cancel")

    rounds = race(api, [[cancel(job_id)] * RACERS for job_id in ids])
    for answers in rounds:
        assert statuses(answers) == {202: RACERS}, "a repeat gets the same answer"
    with api.sessions() as session:
        query = sa.select(JobEvent.job_id, JobEvent.type).where(JobEvent.job_id.in_(ids))
        counts = Counter((row[0], row[1]) for row in session.execute(query) if "cancel" in row[1])
    assert counts == {
        **{(job_id, "job.canceled"): 1 for job_id in ids[:3]},
        **{(id_, "job.canceling"): 1 for id_ in ids[3:]},
    }
    assert count_steps(api) == 3 * 10


def test_cancel_and_claim_at_the_same_time(api: LiveApi) -> None:
    """Either the worker gets a job that is then canceling, or the job has ended; its steps come back only then."""
    body = make_body(api)
    for _ in range(10):
        job_id = api.client.post("/jobs", json=body).json()["id"]
        barrier = Barrier(2)

        def claim(job_id: str = job_id, barrier: Barrier = barrier) -> bool:
            barrier.wait(60)
            try:
                Worker(api, job_id)
            except AssertionError:
                return False
            return True

        def cancel(job_id: str = job_id, barrier: Barrier = barrier) -> str:
            barrier.wait(60)
            return str(api.client.post(f"/jobs/{job_id}/cancel").json()["status"])

        before = count_steps(api)
        with ThreadPoolExecutor(2) as pool:
            claiming, canceling = pool.submit(claim), pool.submit(cancel)
            outcome = (claiming.result(), canceling.result())
        assert outcome in {(True, "canceling"), (False, "canceled")}
        assert count_steps(api) == before - (0 if outcome[0] else 10)
