"""A job's events: whole, in order and live, over any number of reconnections."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx_sse

from core.db import job_claims
from core.db.events import append_event
from core.db.jobs import cancel_job
from core.db.tables import Job
from core.domain.events import EventType
from core.domain.states import Phase
from tests.app.conftest import LiveApi
from tests.app.factory import Worker, submit
from tests.fixtures.servers import PostgresHandle, wait_for

TIMEOUT = httpx.Timeout(60)


def read_stream(api: LiveApi, job_id: str, **options: Any) -> Iterator[httpx_sse.ServerSentEvent]:
    headers = {**api.headers, "Accept": "text/event-stream", **options.pop("headers", {})}
    with (
        httpx.Client(base_url=api.url, timeout=TIMEOUT) as client,
        httpx_sse.connect_sse(client, "GET", f"/jobs/{job_id}/events", headers=headers, **options) as source,
    ):
        assert source.response.status_code == 200
        yield from source.iter_sse()


def events_of(messages: Iterator[httpx_sse.ServerSentEvent]) -> list[httpx_sse.ServerSentEvent]:
    return [message for message in messages if message.event != "progress"]


def test_events_as_a_list(api: LiveApi) -> None:
    job = submit(api)
    worker = Worker(api, job["id"])
    worker.notice("one")
    worker.succeed()
    page = api.client.get(f"/jobs/{job['id']}/events").json()
    assert [event["type"] for event in page["data"]] == ["job.queued", "job.running", "job.notice", "job.succeeded"]
    assert [event["seq"] for event in page["data"]] == [1, 2, 3, 4]
    event = page["data"][1]
    assert event["id"].startswith("evt_")
    assert (event["object"], event["job"], event["attempt"], event["data"]["attempt"]) == ("event", job["id"], 1, 1)
    assert (page["has_more"], page["first_id"], page["last_id"]) == (
        False,
        page["data"][0]["id"],
        page["data"][3]["id"],
    )


def test_the_last_event_has_the_result_as_the_job_shows_it(api: LiveApi) -> None:
    job = submit(api)
    Worker(api, job["id"]).succeed()
    data = api.client.get(f"/jobs/{job['id']}/events").json()["data"][-1]["data"]
    result = api.client.get(f"/jobs/{job['id']}").json()["result"]
    metrics = {name: value for name, value in result["metrics"].items() if name in data["metrics"]}
    del result["proofs"]
    assert data == {**result, "metrics": metrics, "verdicts": {}}


def test_events_page_by_page(api: LiveApi) -> None:
    job = submit(api)
    api.client.post(f"/jobs/{job['id']}/pause")
    api.client.post(f"/jobs/{job['id']}/cancel")
    url = f"/jobs/{job['id']}/events"
    first = api.client.get(f"{url}?limit=2").json()
    assert ([event["seq"] for event in first["data"]], first["has_more"]) == ([1, 2], True)
    for after in ("2", first["last_id"]):
        rest = api.client.get(url, params={"after": after}).json()
        assert ([event["seq"] for event in rest["data"]], rest["has_more"]) == ([3], False)
    answer = api.client.get(f"{url}?after=evt_none")
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")
    assert api.client.get(f"{url}?after={10**14}").json()["data"] == []


def test_the_stream_ends_after_the_last_event(api: LiveApi) -> None:
    job = submit(api)
    Worker(api, job["id"]).succeed()
    messages = events_of(read_stream(api, job["id"]))
    assert [(message.event, message.id) for message in messages] == [
        ("job.queued", "1"), ("job.running", "2"), ("job.succeeded", "3"),
    ]  # fmt: skip
    assert json.loads(messages[2].data)["type"] == "job.succeeded"


def test_a_reader_that_has_the_last_event_need_not_come_again(api: LiveApi) -> None:
    job = submit(api)
    api.client.post(f"/jobs/{job['id']}/cancel")
    accept = {"Accept": "text/event-stream"}
    for last in ("2", api.client.get(f"/jobs/{job['id']}/events").json()["data"][-1]["id"]):
        response = api.client.get(f"/jobs/{job['id']}/events", headers={**accept, "Last-Event-ID": last})
        assert (response.status_code, response.content) == (204, b"")
    [final] = events_of(read_stream(api, job["id"], headers={"Last-Event-ID": "1"}))
    assert final.id == "2"


def test_progress_comes_between_the_events_and_without_an_id(api: LiveApi) -> None:
    job = submit(api)
    worker = Worker(api, job["id"])
    stream = read_stream(api, job["id"], params={"after": "2"})
    first = next(stream)
    assert (first.event, first.id, json.loads(first.data)["status"]) == ("progress", "", "running")
    worker.train(3)
    second = next(stream)
    shown = json.loads(second.data)
    assert (second.event, second.id, shown["id"], shown["progress"]["step"]) == ("progress", "", job["id"], 3)
    worker.succeed()
    assert [message.event for message in stream] == ["job.succeeded"]


def test_a_new_phase_is_followed_by_the_job_that_is_in_it(api: LiveApi) -> None:
    job = submit(api)
    worker = Worker(api, job["id"])
    stream = read_stream(api, job["id"], params={"after": "2"})
    assert next(stream).event == "progress"
    worker.write(job_claims.enter_phase, worker.claim, Phase.CACHING)
    phase, shown = next(stream), next(stream)
    assert (phase.event, shown.event, json.loads(shown.data)["phase"]) == ("job.phase", "progress", "caching")
    worker.succeed()
    assert [message.event for message in stream] == ["job.succeeded"]


def test_the_workers_word_wakes_the_stream(own_api: LiveApi) -> None:
    """With polls an hour apart, only what the broker says can bring the events."""
    own_api.services.progress.poll_seconds = 3600
    wait_for(own_api.broker.pubsub_numpat)
    job = submit(own_api)
    worker = Worker(own_api, job["id"])
    stream = read_stream(own_api, job["id"], params={"after": "2"})
    next(stream)
    for number in range(10):
        worker.notice(str(number))
        assert json.loads(next(stream).data)["data"]["message"] == str(number)
    worker.succeed()
    assert [message.event for message in stream] == ["job.succeeded"]


def test_polls_bring_the_events_when_the_broker_is_away(start_api: Callable[..., LiveApi]) -> None:
    api = start_api(redis_url="redis://127.0.0.1:1/0")
    job = submit(api)
    stream = read_stream(api, job["id"])
    assert next(stream).event == "job.queued"
    with api.sessions.begin() as session:
        cancel_job(session, api.tenant_id, job["id"])
    assert [message.event for message in stream][-1] == "job.canceled"


def test_a_change_through_the_api_is_sent_at_once(api: LiveApi) -> None:
    job = submit(api)
    stream = read_stream(api, job["id"])
    assert next(stream).event == "job.queued"
    api.client.post(f"/jobs/{job['id']}/cancel")
    assert [message.event for message in stream][-1] == "job.canceled"


def test_readers_that_come_and_go_miss_nothing(api: LiveApi) -> None:
    """Each breaks off after a few events and comes back with the id of its last, while events are being appended."""
    job, total, chance = submit(api), 120, random.Random(7)
    worker = Worker(api, job["id"])

    def write() -> None:
        for number in range(total):
            worker.notice(str(number))
        worker.succeed()

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[int] = []
    while not seen or seen[-1] < total + 3:
        stream = read_stream(api, job["id"], headers={"Last-Event-ID": str(seen[-1])} if seen else {})
        for message in stream:
            if message.event != "progress":
                seen.append(int(message.id))
            if chance.random() < 0.1:
                break
        stream.close()  # type: ignore[attr-defined]
    writer.join()
    assert seen == list(range(1, total + 4))


def test_more_events_than_one_reading(api: LiveApi) -> None:
    job = submit(api)
    with api.sessions.begin() as session:
        session.get_one(Job, job["id"], with_for_update=True)
        for number in range(450):
            append_event(session, job["id"], EventType.NOTICE, 0, {"message": str(number)})
    api.client.post(f"/jobs/{job['id']}/cancel")
    assert [int(message.id) for message in events_of(read_stream(api, job["id"]))] == list(range(1, 453))


def test_the_stream_ends_when_the_job_is_deleted(api: LiveApi) -> None:
    job = submit(api)
    stream = read_stream(api, job["id"])
    assert next(stream).event == "job.queued"
    api.client.post(f"/jobs/{job['id']}/cancel")
    api.client.delete(f"/jobs/{job['id']}")
    assert {message.event for message in stream} <= {"progress", "job.canceled"}


def test_the_stream_lives_through_an_outage_of_the_database(own_api: LiveApi, postgres: PostgresHandle) -> None:
    job = submit(own_api)
    worker = Worker(own_api, job["id"])
    stream = read_stream(own_api, job["id"], params={"after": "2"})
    next(stream)
    postgres.kill()
    time.sleep(0.2)
    postgres.start()
    own_api.sessions.kw["bind"].dispose()
    worker.write(job_claims.add_notice, worker.claim, "back")
    assert json.loads(next(stream).data)["data"] == {"message": "back"}
    worker.succeed()
    assert [message.event for message in stream] == ["job.succeeded"]


def test_a_stream_of_a_job_that_is_not_there_is_a_404(api: LiveApi) -> None:
    answer = api.client.get("/jobs/job_none/events", headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_streams_do_not_hold_connections_to_the_database(api: LiveApi) -> None:
    """More readers than the pool has connections, and the API still answers."""
    job = submit(api)
    streams = [read_stream(api, job["id"]) for _ in range(25)]
    for stream in streams:
        assert next(stream).event == "job.queued"
    assert api.client.get(f"/jobs/{job['id']}").status_code == 200
    api.client.post(f"/jobs/{job['id']}/cancel")
    for stream in streams:
        assert [message.event for message in stream][-1] == "job.canceled"


def test_a_list_waits_for_the_next_event(api: LiveApi) -> None:
    job = submit(api)
    last = api.client.get(f"/jobs/{job['id']}/events").json()["last_id"]
    answers: list[httpx.Response] = []
    url = f"/jobs/{job['id']}/events?after={last}&wait=60"
    waiting = threading.Thread(target=lambda: answers.append(api.client.get(url)))
    waiting.start()
    time.sleep(0.3)
    assert answers == []
    Worker(api, job["id"])
    waiting.join(30)
    assert [event["type"] for event in answers[0].json()["data"]] == ["job.running"]


def test_a_wait_for_events_ends_with_its_seconds_and_with_the_job(api: LiveApi) -> None:
    job = submit(api)
    started = time.monotonic()
    page = api.client.get(f"/jobs/{job['id']}/events?after=1&wait=0.5").json()
    assert (page["data"], page["has_more"]) == ([], False)
    assert time.monotonic() - started >= 0.5
    api.client.post(f"/jobs/{job['id']}/cancel")
    assert api.client.get(f"/jobs/{job['id']}/events?after=2&wait=60").json()["data"] == []
    for wait in ("-1", "61", "nan"):
        assert api.client.get(f"/jobs/{job['id']}/events?wait={wait}").status_code == 422
