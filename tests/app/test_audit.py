"""Every call that changes something leaves one entry, in the same transaction; what changes nothing leaves none."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from app.auth.scopes import SAFE_METHODS
from app.datasets.closing import add_files
from app.middleware.gate import is_open
from core.db import audit
from core.db.datasets import NewFile
from core.db.row_security import Actor, act_as
from core.db.tables import DEFAULT_TENANT
from core.domain.audit import Action
from tests.app.conftest import LiveApi, with_scopes
from tests.app.factory import MODEL, Worker, add_captioner, add_dataset, add_model, draw_png, submit
from tests.app.test_adapters import import_ready
from tests.fixtures.document import read_document
from tests.fixtures.weights import weights_of

WRITES = {
    (method.upper(), path)
    for path, methods in read_document()["paths"].items()
    for method in methods
    if not is_open(path) and method.upper() not in SAFE_METHODS
}
HERE = {"Sec-Fetch-Site": "same-origin"}


def list_entries(api: LiveApi, **query: object) -> list[dict[str, str]]:
    answer = api.client.get("/audit", params={"limit": 100, **query})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


@pytest.fixture
def operator(start_api: Callable[..., LiveApi]) -> LiveApi:
    return start_api()


def list_calls(api: LiveApi) -> Iterator[tuple[str, str, httpx.Response, Action, str]]:
    """Every writing call once, well made: method, path, answer, what is to be written, and of which target."""

    def call(method: str, path: str, action: Action, target: str = "", **sent: Any) -> Any:
        answer = api.client.request(method, path.format(**path_ids), **sent)
        assert answer.status_code < 300, (method, path, answer.text)
        body = answer.json() if answer.content else {}
        return method, path, answer, action, target or body.get("id", "")

    path_ids: dict[str, str] = {}
    made = call("POST", "/tenants", Action.TENANT_CREATED, json={"name": "t"})
    yield made
    path_ids["tenant_id"] = DEFAULT_TENANT
    limits = dict.fromkeys(
        ("running_jobs", "queued_jobs", "stored_bytes", "steps_per_day", "images_per_dataset", "rank", "resolution")
    )
    yield call("PUT", "/tenants/{tenant_id}/quota", Action.QUOTA_CHANGED, DEFAULT_TENANT, json=limits)
    yield call("DELETE", "/tenants/{tenant_id}/quota", Action.QUOTA_CHANGED, DEFAULT_TENANT)
    made = call("POST", "/keys", Action.KEY_CREATED, json={"name": "k"})
    yield made
    path_ids["key_id"] = made[4]
    yield call("POST", "/keys/{key_id}/rotate", Action.KEY_ROTATED, made[4])
    path_ids["key_id"] = api.client.post("/keys", json={"name": "k"}).json()["id"]
    yield call("DELETE", "/keys/{key_id}", Action.KEY_REVOKED, path_ids["key_id"])
    made = call("POST", "/models", Action.MODEL_REGISTERED, json={"hub_id": "some/base"})
    yield made
    path_ids["model_id"] = made[4]
    yield call("DELETE", "/models/{model_id}", Action.MODEL_DELETED, made[4])
    made = call("POST", "/captioners", Action.CAPTIONER_REGISTERED, json={"hub_id": "some/captioner"})
    yield made
    path_ids["captioner_id"] = made[4]
    yield call("DELETE", "/captioners/{captioner_id}", Action.CAPTIONER_DELETED, made[4])
    made = call("POST", "/datasets", Action.DATASET_CREATED, json={"name": "d"})
    yield made
    path_ids |= {"dataset_id": made[4], "filename": "a.png"}
    yield call("PUT", "/datasets/{dataset_id}/files/{filename}", Action.DATASET_FILLED, made[4], content=draw_png())
    yield call("POST", "/datasets/{dataset_id}/finalize", Action.DATASET_FINALIZED, made[4])
    path_ids["dataset_id"] = add_dataset(api)
    yield call("POST", "/datasets/{dataset_id}/revisions", Action.DATASET_CREATED, json={"suffix": " on white"})
    asked = {"captioner": add_captioner(api)}
    made = call("POST", "/datasets/{dataset_id}/captions", Action.CAPTIONING_CREATED, json=asked)
    yield made
    path_ids["captioning_id"] = made[4]
    yield call("POST", "/captionings/{captioning_id}/cancel", Action.CAPTIONING_CANCELED, made[4])
    yield call("DELETE", "/captionings/{captioning_id}", Action.CAPTIONING_DELETED, made[4])
    yield call("DELETE", "/datasets/{dataset_id}", Action.DATASET_DELETED, path_ids["dataset_id"])
    spec = {"model": add_model(api), "dataset": add_dataset(api), "trigger": "toy", "steps": 10}
    made = call("POST", "/jobs", Action.JOB_CREATED, json={**spec, "webhook": {"url": "https://example.com/"}})
    yield made
    path_ids["job_id"] = job = made[4]
    for verb, action in (("pause", Action.JOB_PAUSED), ("resume", Action.JOB_RESUMED), ("cancel", Action.JOB_CANCELED)):
        yield call("POST", f"/jobs/{{job_id}}/{verb}", action, job)
    path_ids["delivery_id"] = api.client.get(f"/jobs/{job}/deliveries").json()["data"][0]["id"]
    redeliver = "/jobs/{job_id}/deliveries/{delivery_id}/redeliver"
    yield call("POST", redeliver, Action.DELIVERY_REPEATED, path_ids["delivery_id"])
    yield call("POST", "/jobs/{job_id}/deliveries/test", Action.DELIVERY_TESTED)
    yield call("DELETE", "/jobs/{job_id}", Action.JOB_DELETED, job)
    path_ids["job_id"] = trained = submit(api)["id"]
    worker = Worker(api, trained)
    asked = {"prompts": ["a toy"]}
    yield call("POST", "/jobs/{job_id}/samples", Action.SAMPLES_REQUESTED, trained, json=asked)
    worker.keep_adapter(5)
    worker.succeed()
    yield call("POST", "/jobs/{job_id}/promote", Action.JOB_PROMOTED, trained, json={"step": 5}, params={"wait": 0})
    yield call("POST", "/webhooks/secret/rotate", Action.WEBHOOK_SECRET_ROTATED, DEFAULT_TENANT)
    file = {"file": ("ink.safetensors", weights_of(b"ink"))}
    yield call("POST", "/adapters", Action.ADAPTER_IMPORTED, data={"model": "toy"}, files=file)
    path_ids["adapter_id"] = import_ready(api)
    stack = {"adapters": [{"id": path_ids["adapter_id"]}]}
    made = call("POST", "/adapters/merge", Action.ADAPTER_MERGED, json=stack)
    yield made
    api.client.delete(f"/adapters/{made[4]}")  # or its source could not be
    tuned = MODEL.model_copy(update={"id": "tuned", "sha256": "1" * 64})
    add_model(api, tuned)
    asked = {"model": add_model(api), "tuned": tuned.id}
    made = call("POST", "/adapters/extract", Action.ADAPTER_EXTRACTED, json=asked)
    yield made
    api.client.delete(f"/adapters/{made[4]}")
    made = call("POST", "/adapters/{adapter_id}/resize", Action.ADAPTER_RESIZED, json={"rank": 1})
    yield made
    api.client.delete(f"/adapters/{made[4]}")
    asked = {"adapters": [path_ids["adapter_id"]]}
    yield call("POST", "/adapters/check", Action.ADAPTERS_CHECKED, json=asked, params={"wait": 0})
    yield call("PUT", "/adapters/{adapter_id}/cover", Action.COVER_SENT, content=draw_png())
    sent = {"repo_id": "studio/toy", "token": "hf_of_a_test"}
    yield call("POST", "/adapters/{adapter_id}/publish", Action.ADAPTER_PUBLISHED, json=sent)
    made = call("POST", "/adapters/{adapter_id}/links", Action.LINK_CREATED, json={"expires_in": 60})
    yield made
    path_ids["link_id"] = made[4]
    yield call("DELETE", "/adapters/{adapter_id}/links/{link_id}", Action.LINK_REVOKED, made[4])
    yield call("PATCH", "/adapters/{adapter_id}", Action.ADAPTER_CHANGED, json={"name": "other"})
    yield call("DELETE", "/adapters/{adapter_id}", Action.ADAPTER_DELETED, path_ids["adapter_id"])
    made = call("POST", "/generations", Action.GENERATION_CREATED, json={"model": "toy", "prompts": ["a toy"]})
    yield made
    path_ids["generation_id"] = made[4]
    yield call("POST", "/generations/{generation_id}/cancel", Action.GENERATION_CANCELED, made[4])
    yield call("DELETE", "/generations/{generation_id}", Action.GENERATION_DELETED, made[4])


def test_every_writing_call_leaves_its_entry(operator: LiveApi) -> None:
    own = operator.client.get("/keys").json()["data"][0]["id"]
    done = set()
    for method, path, answer, action, target in list_calls(operator):
        newest = list_entries(operator)[0]
        assert (newest["action"], newest["target"]) == (action, target), (method, path, answer.text)
        assert (newest["key"], newest["address"]) == (own, "127.0.0.1")
        done.add((method, path))
    # Signed addresses need an object store; what they write is tried below.
    assert {("POST", "/datasets/{dataset_id}/uploads")} == WRITES - done
    assert done <= WRITES


def test_announced_files_leave_an_entry(operator: LiveApi) -> None:
    dataset = operator.client.post("/datasets", json={"name": "d"}).json()["id"]
    with operator.sessions.begin() as session:
        act_as(session, Actor(DEFAULT_TENANT, "key_1", "192.0.2.1"))
        add_files(session, operator.settings, DEFAULT_TENANT, dataset, [NewFile("f", "a.png", "k", "0" * 64, 1)])
    newest = list_entries(operator)[0]
    assert (newest["action"], newest["target"], newest["address"]) == ("dataset.filled", dataset, "192.0.2.1")


def test_what_changes_nothing_leaves_nothing(operator: LiveApi) -> None:
    job = submit(operator)
    body = {"model": job["model"], "dataset": job["dataset"], "trigger": "toy", "steps": 10}
    key = {"Idempotency-Key": "once"}
    operator.client.post("/jobs", json=body, headers=key)
    operator.client.post(f"/jobs/{job['id']}/cancel")
    adapter_id = import_ready(operator)
    adapter = operator.client.get(f"/adapters/{adapter_id}").json()
    before = list_entries(operator)
    for answer, status in (
        (operator.client.post("/jobs", json=body, headers=key), 201),
        (operator.client.patch(f"/adapters/{adapter_id}", json={}), 200),
        (operator.client.patch(f"/adapters/{adapter_id}", json={k: adapter[k] for k in ("name", "tags")}), 200),
        (operator.client.delete(f"/tenants/{DEFAULT_TENANT}/quota"), 200),
        (operator.client.post("/jobs?dry_run=true", json=body), 200),
        (operator.client.post("/jobs", json={**body, "steps": -1}), 422),
        (operator.client.post(f"/jobs/{job['id']}/pause"), 409),
        (operator.client.delete(f"/datasets/{job['dataset']}"), 409),
        (operator.client.post("/jobs/job_none/cancel"), 404),
        (operator.client.get("/jobs"), 200),
    ):
        assert answer.status_code == status, answer.text
    assert list_entries(operator) == before


def test_an_act_that_is_rolled_back_was_not_done(admin: LiveApi) -> None:
    before = list_entries(admin)
    with admin.sessions() as session:
        act_as(session, Actor(admin.tenant_id, "key_1", ""))
        audit.record(session, Action.JOB_CREATED, "job_x")
        session.rollback()
    assert list_entries(admin) == before


def test_workers_are_no_actors(admin: LiveApi) -> None:
    job = submit(admin)
    before = list_entries(admin)
    Worker(admin, job["id"]).succeed()
    assert list_entries(admin) == before


def test_the_log_is_paged_and_filtered(admin: LiveApi) -> None:
    for number in range(3):
        admin.client.post("/keys", json={"name": f"{number}"})
    submit(admin)
    page = admin.client.get("/audit", params={"limit": 2}).json()
    assert [entry["action"] for entry in page["data"]] == ["job.created", "key.created"]
    assert page["has_more"] is True
    rest = admin.client.get("/audit", params={"after": page["last_id"]}).json()
    assert len(rest["data"]) == 2
    assert {entry["action"] for entry in list_entries(admin, action="key.created")} == {"key.created"}
    assert admin.client.get("/audit", params={"action": "x"}).status_code == 422


def test_two_tenants_logs_are_two(admin: LiveApi, other: LiveApi) -> None:
    submit(admin)
    with with_scopes(other, "admin") as theirs:
        assert list_entries(theirs) == []
    assert len(list_entries(admin)) == 1


def test_no_secret_stands_in_the_log(admin: LiveApi) -> None:
    made = admin.client.post("/keys", json={"name": "k"}).json()
    text = admin.client.get("/audit").text
    assert made["secret"] not in text and admin.api_key not in text


# --- the dashboard --------------------------------------------------------------------------------------------


@contextmanager
def log_in(api: LiveApi, key: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, headers=HERE) as browser:
        assert browser.post("/ui/login", data={"api_key": key}).status_code == 303
        yield browser


def find_csrf(page: httpx.Response) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page.text)
    assert found
    return found[1]


def test_the_dashboard_leaves_entries_too(admin: LiveApi) -> None:
    job = submit(admin)
    link = admin.client.post("/ui/tokens").json()["token"]
    with httpx.Client(base_url=admin.url, headers=HERE) as guest:
        assert guest.post("/ui/login", data={"token": link}).status_code == 303
    with log_in(admin, admin.api_key) as browser:
        csrf = find_csrf(browser.get(f"/ui/jobs/{job['id']}"))
        browser.post(f"/ui/jobs/{job['id']}/cancel", data={"csrf": csrf})
        browser.post("/ui/logout", data={"csrf": csrf})
    actions = [entry["action"] for entry in list_entries(admin)]
    assert actions == [
        "dashboard.closed", "job.canceled", "dashboard.opened", "dashboard.opened", "dashboard.linked", "job.created",
    ]  # fmt: skip


def test_a_session_may_do_what_its_key_may(api: LiveApi) -> None:
    job = submit(api)
    with with_scopes(api, "read") as reader, log_in(api, reader.api_key) as browser:
        page = browser.get(f"/ui/jobs/{job['id']}")
        assert page.status_code == 200
        for verb in ("pause", "cancel"):
            answer = browser.post(f"/ui/jobs/{job['id']}/{verb}", data={"csrf": find_csrf(page)})
            assert answer.status_code == 403, verb
        assert browser.post("/ui/logout", data={"csrf": find_csrf(page)}).status_code == 303
    with with_scopes(api, "jobs") as writer, log_in(api, writer.api_key) as browser:
        assert browser.get("/ui", headers={"Accept": "text/html"}).status_code == 403
        assert browser.get(f"/ui/jobs/{job['id']}").status_code == 403
    assert api.client.get(f"/jobs/{job['id']}").json()["status"] == "queued"


def test_a_session_sees_its_tenants_things_alone(api: LiveApi, other: LiveApi) -> None:
    job = submit(api)
    with log_in(other, other.api_key) as browser:
        assert job["id"] not in browser.get("/ui/jobs").text
        for path in (f"/ui/jobs/{job['id']}", f"/ui/jobs/{job['id']}/stream", f"/ui/datasets/{job['dataset']}"):
            assert browser.get(path).status_code == 404, path


def test_a_session_ends_with_its_key(admin: LiveApi) -> None:
    made = admin.client.post("/keys", json={"name": "k"}).json()
    with log_in(admin, made["secret"]) as browser:
        assert browser.get("/ui").status_code == 200
        admin.client.post(f"/keys/{made['id']}/rotate", json={"overlap_seconds": 0})
        assert browser.get("/ui", headers={"Accept": "*/*"}).status_code == 401
