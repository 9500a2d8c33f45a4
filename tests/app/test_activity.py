"""The states of a tenant's things, and their changes as a stream."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx_sse

from app.activity.schemas import ActivityOut
from app.activity.service import find_changes
from core.db import job_claims
from core.db.activity import MAX_OF_EACH
from core.db.delivery_claims import Try, claim_deliveries, record_failed
from core.db.tables import Worker as WorkerRow
from core.db.workers import record_worker
from core.domain.states import Phase
from tests.app.conftest import LiveApi, with_scopes
from tests.app.factory import Worker, add_dataset, submit


@contextmanager
def follow(api: LiveApi) -> Iterator[Iterator[httpx_sse.ServerSentEvent]]:
    """After ``ready``. Silence for ten seconds, less than until the next ping, is an error."""
    headers = {"Accept": "text/event-stream"}
    with httpx_sse.connect_sse(api.client, "GET", "/activity", headers=headers, timeout=10) as source:
        events = source.iter_sse()
        assert next(events).event == "ready"
        yield events


def read(events: Iterator[httpx_sse.ServerSentEvent], **wanted: Any) -> dict[str, Any]:
    """The first change that has these values."""
    for event in events:
        change: dict[str, Any] = json.loads(event.data)
        assert event.event == change["resource"]
        if wanted.items() <= change.items():
            return change
    raise AssertionError(f"the stream ended without {wanted}")


def test_the_states_of_everything(api: LiveApi) -> None:
    job = submit(api)
    found = {one["id"]: one for one in api.client.get("/activity").json()["data"]}
    assert found[job["id"]]["status"] == "queued"
    assert found[job["id"]]["queue_position"] == 1
    assert found[job["dataset"]]["resource"] == "dataset"


def test_a_job_is_followed_from_its_creation_to_its_deletion(api: LiveApi) -> None:
    with follow(api) as events:
        job = submit(api)
        assert read(events, id=job["id"])["status"] == "queued"
        worker = Worker(api, job["id"])
        worker.train(3)
        worker.write(job_claims.enter_phase, worker.claim, Phase.TRAINING)
        assert read(events, id=job["id"], phase="training")["progress"]["step"] == 3
        worker.succeed()
        assert read(events, resource="adapter")["status"] == "ready"
        api.client.delete(f"/jobs/{job['id']}")
        gone = read(events, id=job["id"], status=None)
        assert (gone["phase"], gone["progress"]) == (None, None)


def test_another_tenants_things_are_not_told(api: LiveApi, other: LiveApi) -> None:
    with follow(api) as events:
        theirs = add_dataset(other)
        own = add_dataset(api)
        assert read(events)["id"] == own
    assert theirs not in api.client.get("/activity").text


def test_it_needs_the_scope_read(api: LiveApi) -> None:
    with with_scopes(api, "jobs") as writer:
        assert writer.client.get("/activity").status_code == 403


def test_what_newer_things_push_out_of_sight_was_not_deleted() -> None:
    def state(number: int) -> ActivityOut:
        return ActivityOut(resource="job", id=f"job_{number:04}", status="queued")

    before = {one.id: one for one in map(state, range(MAX_OF_EACH))}
    after = {one.id: one for one in map(state, range(1, MAX_OF_EACH + 1))}
    assert [change.id for change in find_changes(before, after)] == [state(MAX_OF_EACH).id]
    del after[state(5).id]
    changes = list(find_changes(before, {**after, state(0).id: state(0)}))
    assert [(change.id, change.status) for change in changes] == [
        (state(MAX_OF_EACH).id, "queued"),
        (state(5).id, None),
    ]


def test_its_head_is_answered_at_once(api: LiveApi) -> None:
    answer = api.client.head("/activity", headers={"Accept": "text/event-stream"}, timeout=5)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_base_models_and_workers_are_followed(own_api: LiveApi) -> None:
    api = own_api  # with the operator's key
    with follow(api) as events:
        api.client.post("/models", json={"hub_id": "some/base", "id": "watched"}).raise_for_status()
        assert read(events, resource="model", id="watched")["status"] == "checking"
        job = submit(api)
        Worker(api, job["id"])
        with api.sessions.begin() as session:
            record_worker(
                session, worker_id="watched/cpu", device="cpu", device_name="cpu x2", memory_bytes=None,
                job_id=job["id"], warm_models=[],
            )  # fmt: skip
        assert read(events, resource="worker", id="watched/cpu")["status"] == "running"
        with api.sessions.begin() as session:
            session.get_one(WorkerRow, "watched/cpu").seen_at = datetime(2020, 1, 1, tzinfo=UTC)
        assert read(events, resource="worker", id="watched/cpu")["status"] is None
        api.client.delete("/models/watched").raise_for_status()
        assert read(events, resource="model", id="watched")["status"] is None


def test_another_tenants_job_does_not_show_on_its_worker(api: LiveApi, other: LiveApi) -> None:
    job = submit(other)
    with api.sessions.begin() as session:
        record_worker(
            session, worker_id="shared/cpu", device="cpu", device_name="", memory_bytes=None, job_id=job["id"],
            warm_models=[],
        )  # fmt: skip
    found = {one["id"]: one["status"] for one in api.client.get("/activity").json()["data"]}
    theirs = {one["id"]: one["status"] for one in other.client.get("/activity").json()["data"]}
    assert (found["shared/cpu"], theirs["shared/cpu"]) == ("ready", "running")


def test_a_delivery_and_each_of_its_tries_is_told(api: LiveApi, other: LiveApi) -> None:
    with follow(api) as events:
        job = submit(api, webhook={"url": "https://hooks.example.com/"})
        [delivery] = api.client.get(f"/jobs/{job['id']}/deliveries").json()["data"]
        found = read(events, resource="delivery", id=delivery["id"])
        assert (found["status"], found["progress"]["units_done"]) == ("pending", 0)
        with api.sessions.begin() as session:
            claims = claim_deliveries(session, lease_seconds=60, limit=100, per_host=100)
            [claim] = [claim for claim in claims if claim.event_id == delivery["id"]]
            record_failed(session, claim, Try(datetime.now(UTC), 0.1, status_code=503), delay_seconds=60)
        found = read(events, id=delivery["id"])
        assert (found["status"], found["progress"]["units_done"]) == ("pending", 1)
    assert delivery["id"] not in other.client.get("/activity").text
