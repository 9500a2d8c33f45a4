"""One job for each Idempotency-Key, however often and however fast it is sent."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx
import sqlalchemy as sa

from core.db.tables import IdempotencyRecord
from tests.app.conftest import LiveApi
from tests.app.factory import MODEL, Worker, add_dataset, add_model

RACERS = 20


def make_body(api: LiveApi, **spec: Any) -> dict[str, Any]:
    return {"model": add_model(api), "dataset": add_dataset(api), "trigger": "toy", "steps": 10, **spec}


def post(api: LiveApi, body: dict[str, Any], key: str) -> httpx.Response:
    return api.client.post("/jobs", json=body, headers={"Idempotency-Key": key})


def test_a_repeat_gets_the_first_answer(api: LiveApi) -> None:
    body, key = make_body(api), uuid.uuid4().hex
    first = post(api, body, key)
    again = post(api, dict(reversed(body.items())), key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(api.client.get("/jobs").json()["data"]) == 1


def test_a_repeat_gets_the_first_answer_whatever_became_of_the_job(api: LiveApi) -> None:
    body, key = make_body(api), uuid.uuid4().hex
    first = post(api, body, key).json()
    worker = Worker(api, first["id"])
    worker.train(5)
    assert post(api, body, key).json() == first
    worker.succeed()
    assert post(api, body, key).json() == first
    assert api.client.get(f"/jobs/{first['id']}").json()["status"] == "succeeded"


def test_the_same_key_with_another_body(api: LiveApi) -> None:
    body, key = make_body(api), uuid.uuid4().hex
    first = post(api, body, key).json()
    answer = post(api, {**body, "steps": 11}, key)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-mismatch")
    assert first["id"] in answer.json()["detail"]
    assert len(api.client.get("/jobs").json()["data"]) == 1


def test_keys_belong_to_a_tenant(api: LiveApi, other: LiveApi) -> None:
    key = uuid.uuid4().hex
    mine, theirs = post(api, make_body(api), key).json(), post(other, make_body(other), key).json()
    assert mine["id"] != theirs["id"]


def test_without_a_key_each_post_is_a_job(api: LiveApi) -> None:
    body = make_body(api)
    assert api.client.post("/jobs", json=body).json()["id"] != api.client.post("/jobs", json=body).json()["id"]


def test_a_refused_request_does_not_use_up_its_key(api: LiveApi) -> None:
    body, key = make_body(api), uuid.uuid4().hex
    assert post(api, {**body, "dataset": "ds_none"}, key).status_code == 404
    assert post(api, body, key).status_code == 201


def test_a_key_is_free_again_after_a_day(api: LiveApi) -> None:
    body, key = make_body(api), uuid.uuid4().hex
    first = post(api, body, key).json()
    with api.sessions.begin() as session:
        day_before = sa.func.now() - sa.text("interval '25 hours'")
        session.execute(sa.update(IdempotencyRecord).where(IdempotencyRecord.key == key).values(created_at=day_before))
    assert post(api, {**body, "steps": 12}, key).json()["id"] != first["id"]


def test_a_deleted_job_frees_its_key(api: LiveApi) -> None:
    body, key = make_body(api), uuid.uuid4().hex
    first = post(api, body, key).json()
    api.client.post(f"/jobs/{first['id']}/cancel")
    assert api.client.delete(f"/jobs/{first['id']}").status_code == 204
    assert post(api, body, key).json()["id"] != first["id"]


def test_keys_that_are_none(api: LiveApi) -> None:
    body = make_body(api)
    for key in (b"x" * 256, b"\xe4\xff", b""):
        answer = api.client.post("/jobs", json=body, headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request"), key


def race(api: LiveApi, requests: list[tuple[dict[str, Any], str]]) -> list[httpx.Response]:
    """Sends all at the same moment, each over a connection of its own."""
    barrier = Barrier(len(requests))

    def send(request: tuple[dict[str, Any], str]) -> httpx.Response:
        body, key = request
        with httpx.Client(base_url=api.url, headers=api.headers, timeout=60) as client:
            client.get("/healthz")  # connected before the start
            barrier.wait()
            return client.post("/jobs", json=body, headers={"Idempotency-Key": key})

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(send, requests))


def test_racing_repeats_get_the_original(api: LiveApi) -> None:
    for _ in range(3):
        request = (make_body(api), uuid.uuid4().hex)
        answers = race(api, [request] * RACERS)
        assert [answer.status_code for answer in answers] == [201] * RACERS
        assert len({answer.text for answer in answers}) == 1
        assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert len(api.client.get("/jobs").json()["data"]) == 3


def test_racing_bodies_leave_one_job(api: LiveApi) -> None:
    body, key = make_body(api), uuid.uuid4().hex
    answers = race(api, [({**body, "steps": 10 + number % 2}, key) for number in range(RACERS)])
    assert sorted({answer.status_code for answer in answers}) == [201, 422]
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert len(api.client.get("/jobs").json()["data"]) == 1


def test_submitting_while_the_dataset_is_deleted(api: LiveApi) -> None:
    """Either the job stands and the dataset with it, or neither; never a 5xx."""
    for _ in range(5):
        body = make_body(api)
        barrier = Barrier(2)

        def delete(dataset: str = body["dataset"], barrier: Barrier = barrier) -> int:
            barrier.wait()
            return httpx.delete(f"{api.url}/datasets/{dataset}", headers=api.headers).status_code

        def create(body: dict[str, Any] = body, barrier: Barrier = barrier) -> int:
            barrier.wait()
            return httpx.post(f"{api.url}/jobs", json=body, headers=api.headers).status_code

        with ThreadPoolExecutor(2) as pool:
            outcome = [future.result() for future in (pool.submit(delete), pool.submit(create))]
        assert outcome in ([204, 404], [409, 201])
        assert MODEL.id == body["model"]
