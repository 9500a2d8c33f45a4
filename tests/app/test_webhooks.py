"""Webhooks by HTTP: what a job may name, what became of its messages, and the secret that nobody reads."""

import json
import logging
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from core.db import job_claims
from core.db.tables import Base
from core.domain.events import STATUS_EVENTS
from core.domain.states import TerminationReason
from core.domain.webhooks import check_secret, make_secret
from tests.app.conftest import LiveApi
from tests.app.factory import Worker, add_dataset, add_model, submit
from tests.app.test_jobs import post, refuse
from tests.fixtures.receiver import Receiver, serve_receiver
from worker import drain
from worker.deliveries import Courier
from worker.outgoing import Outgoing

URL = "https://hooks.example.com/atelier"
FORBIDDEN = [
    "http://127.0.0.1/", "http://127.0.0.1:8000/jobs", "https://localhost/", "http://api.localhost:5432/", "http://[::1]/",
    "http://10.0.0.5/", "http://169.254.169.254/latest/meta-data/", "http://192.168.1.1/", "http://100.64.0.1/",
    "http://0.0.0.0/", "http://[::ffff:10.0.0.1]/", "http://[64:ff9b::a00:1]/", "http://[2002:a00:1::]/",
    "http://[fe80::1]/", "http://[fd00::1]/", "http://224.0.0.1/", "http://255.255.255.255/",
]  # fmt: skip


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with serve_receiver() as receiver:
        yield receiver


@pytest.fixture
def admitting(start_api: Callable[..., LiveApi]) -> LiveApi:
    """An API of this test's own whose operator admits loopback."""
    return start_api(webhook_allow="127.0.0.1")


def deliver(api: LiveApi) -> int:
    settings = api.settings
    outgoing = Outgoing(settings.webhook_allow, timeout_seconds=30)
    return Courier(settings, api.sessions, outgoing, drain.requested).deliver_due()


def list_deliveries(api: LiveApi, job_id: str, query: str = "") -> dict[str, Any]:
    answer = api.client.get(f"/jobs/{job_id}/deliveries{query}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


# --- what a job may name -------------------------------------------------------------------------------


def test_a_job_shows_its_receiver_and_tells_of_changes_of_status(api: LiveApi) -> None:
    job = submit(api, webhook={"url": URL})
    api.wait_for_ring("cpu")
    assert job["spec"]["webhook"] == {"url": URL}
    worker = Worker(api, job["id"])
    worker.checkpoint(5)
    worker.succeed()
    deliveries = list_deliveries(api, job["id"])["data"]
    assert [item["type"] for item in deliveries] == ["job.queued", "job.running", "job.succeeded"]
    assert {item["type"] for item in deliveries} <= set(STATUS_EVENTS)


def test_a_dry_run_takes_a_receiver_and_tells_nobody(api: LiveApi) -> None:
    body = {"model": add_model(api), "dataset": add_dataset(api), "webhook": {"url": URL, "secret": make_secret()}}
    answer = api.client.post("/jobs?dry_run=true", json=body)
    assert answer.status_code == 200
    assert "webhook" not in answer.text
    assert "whsec" not in answer.text


@pytest.mark.parametrize("url", FORBIDDEN)
def test_private_receivers_are_refused_by_their_pointer(api: LiveApi, url: str) -> None:
    answer = api.client.post("/jobs?dry_run=true", json={"model": "toy", "dataset": "ds_1", "webhook": {"url": url}})
    problem = refuse(answer, 422, "url-forbidden")
    assert list(problem["errors"]) == ["/webhook/url"]
    assert "ATELIER_WEBHOOK_ALLOW" in problem["detail"]


def test_what_the_operator_admits_is_taken(admitting: LiveApi) -> None:
    submit(admitting, webhook={"url": "http://127.0.0.1:9/"})
    refuse(post(admitting, webhook={"url": "http://127.0.0.2:9/"}), 422, "url-forbidden")


# --- what became of it ---------------------------------------------------------------------------------


def test_the_log_of_a_jobs_messages(admitting: LiveApi, receiver: Receiver) -> None:
    api, answers = admitting, [(500, b"not now"), (200, b"thanks")]
    receiver.reply = lambda _: answers.pop(0)
    job = submit(api, webhook={"url": receiver.url, "secret": make_secret()})
    (waiting,) = list_deliveries(api, job["id"])["data"]
    assert (waiting["status"], waiting["attempts"], waiting["delivered_at"]) == ("pending", [], None)
    assert waiting["next_attempt_at"] is not None
    assert deliver(api) == 1

    (failed,) = list_deliveries(api, job["id"])["data"]
    assert (failed["status"], failed["job"], failed["seq"], failed["object"]) == ("pending", job["id"], 1, "delivery")
    (attempt,) = failed["attempts"]
    assert (attempt["status_code"], attempt["error"], attempt["excerpt"]) == (500, None, "not now")
    assert attempt["duration_seconds"] >= 0
    assert failed["next_attempt_at"] > waiting["next_attempt_at"]

    url = f"/jobs/{job['id']}/deliveries/{failed['id']}/redeliver"
    api.broker.delete("cpu")
    answer = api.client.post(url)
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    api.wait_for_ring("cpu")
    assert deliver(api) == 1
    (done,) = list_deliveries(api, job["id"])["data"]
    assert (done["status"], [entry["status_code"] for entry in done["attempts"]]) == ("delivered", [500, 200])
    assert (done["next_attempt_at"], receiver.ids) == (None, [done["id"]] * 2)
    assert done["id"] == api.client.get(f"/jobs/{job['id']}/events").json()["data"][0]["id"]

    answers.append((204, b""))
    assert api.client.post(url).status_code == 202
    assert deliver(api) == 1
    assert receiver.ids == [done["id"]] * 3


def test_the_last_message_shows_the_job_as_the_api_does(admitting: LiveApi, receiver: Receiver) -> None:
    for end in ("succeed", "fail"):
        job = submit(admitting, webhook={"url": receiver.url}, metadata={"run": "7"})
        worker = Worker(admitting, job["id"])
        if end == "succeed":
            worker.succeed()
        else:
            worker.write(job_claims.fail, worker.claim, TerminationReason.NAN_LOSS, "The loss at step 7 was NaN")
        deliver(admitting)
        last = max((m.body for m in receiver.messages), key=lambda body: (body["data"]["job_id"], body["data"]["seq"]))
        shown = admitting.client.get(f"/jobs/{job['id']}").json()
        sent = last["data"]["job"]
        result, whole = sent.pop("result"), shown.pop("result")
        assert sent == {key: shown[key] for key in sent}
        if end == "succeed":
            assert result["adapter"] == whole["adapter"]
            assert result["adapter_id"] == whole["adapter_id"]
            assert result["samples"] == whole["samples"]
            assert result["metrics"].items() <= whole["metrics"].items()
        else:
            assert result is None
            assert last["data"]["event"] == {"reason": "nan-loss"}


def test_pages(api: LiveApi) -> None:
    job = submit(api, webhook={"url": URL})
    Worker(api, job["id"]).succeed()
    first = list_deliveries(api, job["id"], "?limit=2")
    assert ([item["seq"] for item in first["data"]], first["has_more"]) == ([1, 2], True)
    second = list_deliveries(api, job["id"], f"?after={first['last_id']}")
    assert ([item["seq"] for item in second["data"]], second["has_more"]) == ([3], False)
    refuse(api.client.get(f"/jobs/{job['id']}/deliveries?after=evt_none"), 404, "not-found")


def test_a_job_without_a_receiver_has_none(api: LiveApi) -> None:
    job = submit(api)
    assert list_deliveries(api, job["id"])["data"] == []
    refuse(api.client.post(f"/jobs/{job['id']}/deliveries/evt_none/redeliver"), 404, "not-found")


def test_another_tenants_messages_are_as_good_as_missing(api: LiveApi, other: LiveApi) -> None:
    job = submit(api, webhook={"url": URL})
    delivery = list_deliveries(api, job["id"])["data"][0]["id"]
    own = submit(other, webhook={"url": URL})
    refuse(other.client.get(f"/jobs/{job['id']}/deliveries"), 404, "not-found")
    refuse(other.client.post(f"/jobs/{job['id']}/deliveries/{delivery}/redeliver"), 404, "not-found")
    refuse(other.client.post(f"/jobs/{own['id']}/deliveries/{delivery}/redeliver"), 404, "not-found")


def test_the_messages_of_all_jobs_newest_first(api: LiveApi, other: LiveApi) -> None:
    jobs = [submit(api, webhook={"url": URL})["id"] for _ in range(2)]
    theirs = submit(other, webhook={"url": URL})["id"]
    Worker(api, jobs[0])  # queued, queued, running
    page = api.client.get("/webhooks/deliveries?limit=2").json()
    assert [(row["job"], row["type"]) for row in page["data"]] == [(jobs[0], "job.running"), (jobs[1], "job.queued")]
    assert page["has_more"]
    older = api.client.get(f"/webhooks/deliveries?limit=1&after={page['last_id']}").json()
    assert [(row["job"], row["type"]) for row in older["data"]] == [(jobs[0], "job.queued")]
    assert api.client.get("/webhooks/deliveries?status=failed").json()["data"] == []
    assert {row["job"] for row in other.client.get("/webhooks/deliveries").json()["data"]} == {theirs}
    assert api.client.get("/webhooks/deliveries?status=lost").status_code == 422


def test_a_receiver_is_tested_as_often_as_one_likes(admitting: LiveApi, receiver: Receiver) -> None:
    api = admitting
    job = submit(api, webhook={"url": receiver.url, "events": ["job.failed"]})
    url = f"/jobs/{job['id']}/deliveries"
    receiver.secrets = (api.client.get("/webhooks/secret").json()["secret"],)
    ids = []
    for number in (1, 2):
        made = api.client.post(f"{url}/test")
        assert (made.status_code, made.json()["type"], made.json()["seq"]) == (202, "webhook.test", 0)
        ids.append(made.json()["id"])
        assert deliver(api) == 1
        [tested] = list_deliveries(api, job["id"])["data"]
        assert (tested["id"], tested["status"], len(tested["attempts"])) == (ids[-1], "delivered", 1)
        assert len(receiver.messages) == number
    assert receiver.ids == ids
    message = receiver.messages[-1]
    assert message.verified
    assert message.body["type"] == "webhook.test"
    assert message.body["data"] == {"job_id": job["id"], "event_id": ids[-1], "seq": 0}
    refuse(api.client.post(f"/jobs/{submit(api)['id']}/deliveries/test"), 409, "wrong-state")


def test_messages_go_with_their_job(api: LiveApi) -> None:
    job = submit(api, webhook={"url": URL})
    api.client.post(f"/jobs/{job['id']}/cancel")
    assert api.client.delete(f"/jobs/{job['id']}").status_code == 204
    refuse(api.client.get(f"/jobs/{job['id']}/deliveries"), 404, "not-found")


# --- secrets -------------------------------------------------------------------------------------------


def test_the_tenants_secret_is_read_and_rotated(api: LiveApi, other: LiveApi) -> None:
    answer = api.client.get("/webhooks/secret")
    assert answer.headers["cache-control"] == "no-store"
    first = answer.json()
    check_secret(first["secret"])
    assert first["previous_valid_until"] is None
    assert api.client.get("/webhooks/secret").json() == first
    second = api.client.post("/webhooks/secret/rotate").json()
    assert second["secret"] != first["secret"]
    assert second["previous_valid_until"] is not None
    assert api.client.get("/webhooks/secret").json() == second
    assert other.client.get("/webhooks/secret").json()["secret"] not in {first["secret"], second["secret"]}


def test_what_is_signed_by_the_tenants_secret_verifies(admitting: LiveApi, receiver: Receiver) -> None:
    receiver.secrets = (admitting.client.get("/webhooks/secret").json()["secret"],)
    submit(admitting, webhook={"url": receiver.url})
    deliver(admitting)
    assert [message.verified for message in receiver.messages] == [True]


def test_the_secret_counts_for_a_repeat_of_a_request(api: LiveApi) -> None:
    body = {"model": add_model(api), "dataset": add_dataset(api), "webhook": {"url": URL, "secret": make_secret()}}
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    first = api.client.post("/jobs", json=body, headers=headers)
    assert api.client.post("/jobs", json=body, headers=headers).json() == first.json()
    other = {**body, "webhook": {"url": URL, "secret": make_secret()}}
    refuse(api.client.post("/jobs", json=other, headers=headers), 422, "idempotency-mismatch")


def test_a_jobs_secret_is_in_no_answer_no_log_and_no_other_table(
    admitting: LiveApi, receiver: Receiver, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    api = admitting
    secrets = [make_secret() for _ in range(30)]
    seen: list[httpx.Response] = []
    with caplog.at_level(logging.DEBUG):
        for number, secret in enumerate(secrets):
            webhook = {"url": receiver.url, "secret": secret, "events": ["job.queued", "job.canceled"]}
            if number % 5 == 4:  # refused for something else, or for the secret itself
                webhook |= {"secret": f"{secret}!"} if number % 2 else {"events": ["job.born"]}
            seen.append(post(api, webhook=webhook))
        ids = [answer.json()["id"] for answer in seen if answer.status_code == 201]
        seen += [api.client.post(f"/jobs/{job_id}/cancel") for job_id in ids]
        deliver(api)
        for job_id in ids:
            paths = ("", "/events", "/deliveries", "/metrics", "/samples", "/checkpoints")
            seen += [api.client.get(f"/jobs/{job_id}{path}") for path in paths]
        seen += [api.client.get(path) for path in ("/jobs", "/openapi.json", "/workers")]
    assert len(ids) == 24
    assert len(receiver.messages) == 48
    text_of_all = caplog.text + "".join(answer.text for answer in seen) + dump_database(api, {"webhooks"})
    text_of_all += "".join(file.read_text(errors="replace") for file in tmp_path.rglob("*.log"))
    text_of_all += "".join(json.dumps([dict(m.headers), m.body]) for m in receiver.messages)
    assert "job.canceled" in text_of_all
    assert [secret for secret in secrets if secret.removeprefix("whsec_") in text_of_all] == []


def dump_database(api: LiveApi, without: set[str]) -> str:
    names = [table.name for table in Base.metadata.sorted_tables if table.name not in without]
    with api.sessions() as session:
        rows = [session.execute(text(f"SELECT t::text FROM {name} AS t")).scalars().all() for name in names]
    return repr(rows)


def test_a_database_that_refuses_keeps_the_secret_out_of_the_log(
    admitting: LiveApi, owner_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret = make_secret()
    url = make_url(owner_database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE webhooks DROP COLUMN disabled_at")
    with caplog.at_level(logging.DEBUG):
        answer = post(admitting, webhook={"url": URL, "secret": secret})
    refuse(answer, 500, "internal")
    assert "webhooks" in caplog.text
    assert secret not in caplog.text + answer.text
