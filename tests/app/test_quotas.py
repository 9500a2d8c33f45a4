"""What a tenant may have: reserved with the job, refused in words that help, shown with what is used of it."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from core.db import job_claims, quotas
from core.db.tables import UsageDay
from core.domain.limits import Limits
from tests.app.conftest import LiveApi
from tests.app.factory import MODEL, Worker, add_dataset, add_model, draw_png
from tests.app.test_idempotency import make_body
from tests.app.test_jobs import refuse
from tests.fixtures.weights import weights_in, weights_of

NONE: dict[str, int | None] = Limits.unlimited().model_dump()


def limit(api: LiveApi, **limits: int | None) -> None:
    with api.sessions.begin() as session:
        quotas.set_limits(session, api.tenant_id, Limits.model_validate({**NONE, **limits}))


def usage(api: LiveApi) -> dict[str, Any]:
    answer = api.client.get("/usage")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def submit(api: LiveApi, **spec: Any) -> httpx.Response:
    return api.client.post("/jobs", json=make_body(api, **spec))


def accepted(api: LiveApi, **spec: Any) -> str:
    answer = submit(api, **spec)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_waiting_jobs(api: LiveApi) -> None:
    """Paused ones wait too; a job that ended or was begun leaves its place."""
    limit(api, queued_jobs=2)
    first, second = accepted(api), accepted(api)
    api.client.post(f"/jobs/{first}/pause")
    answer = submit(api)
    problem = refuse(answer, 429, "quota-exceeded")
    assert problem["detail"] == "Queue limit reached: 2 of 2 jobs are waiting. Wait for one to start, or cancel one."
    assert "retry-after" not in answer.headers, "nobody knows when a worker will be free"
    api.client.post(f"/jobs/{first}/cancel")
    accepted(api)
    refuse(submit(api), 429, "quota-exceeded")
    Worker(api, second)
    accepted(api)
    assert usage(api)["queued_jobs"] == {"used": 2, "limit": 2}
    assert usage(api)["running_jobs"] == {"used": 1, "limit": None}


def test_a_refused_job_takes_nothing(api: LiveApi) -> None:
    limit(api, queued_jobs=1, steps_per_day=1000)
    body = make_body(api)
    assert api.client.post("/jobs", json=body).status_code == 201
    before = usage(api)
    refuse(api.client.post("/jobs", json=body), 429, "quota-exceeded")
    assert usage(api) == before
    assert before["steps_today"] == {"used": 10, "limit": 1000}


def test_a_repeat_is_never_refused(api: LiveApi) -> None:
    limit(api, queued_jobs=1)
    body, headers = make_body(api), {"Idempotency-Key": "once"}
    first = api.client.post("/jobs", json=body, headers=headers)
    again = api.client.post("/jobs", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    refuse(api.client.post("/jobs", json=body, headers={"Idempotency-Key": "twice"}), 429, "quota-exceeded")
    api.client.post(f"/jobs/{first.json()['id']}/cancel")
    retried = api.client.post("/jobs", json=body, headers={"Idempotency-Key": "twice"})
    assert (retried.status_code, "idempotent-replayed" in retried.headers) == (201, False), "a refusal uses up no key"


def test_steps_of_a_day(api: LiveApi) -> None:
    limit(api, steps_per_day=100)
    accepted(api, steps=70)
    answer = submit(api, steps=31)
    problem = refuse(answer, 429, "quota-exceeded")
    assert "31 steps" in problem["detail"] and "70 of 100" in problem["detail"]
    assert 1 <= int(answer.headers["retry-after"]) <= 86_400
    accepted(api, steps=30)
    assert "retry-after" not in submit(api, steps=101).headers, "tomorrow would not help"
    with api.sessions.begin() as session:  # a day passes
        yesterday = UsageDay.day - sa.literal(1, sa.Integer)
        session.execute(sa.update(UsageDay).where(UsageDay.tenant_id == api.tenant_id).values(day=yesterday))
    accepted(api, steps=100)


def test_steps_come_back_from_jobs_that_never_began(api: LiveApi) -> None:
    limit(api, steps_per_day=100)
    queued, begun = accepted(api, steps=40), accepted(api, steps=60)
    worker = Worker(api, begun)
    api.client.post(f"/jobs/{begun}/cancel")
    worker.write(job_claims.acknowledge_stop, worker.claim)
    refuse(submit(api, steps=1), 429, "quota-exceeded")
    for _ in range(2):
        assert api.client.post(f"/jobs/{queued}/cancel").status_code == 202
        assert usage(api)["steps_today"]["used"] == 60, "once"
    assert api.client.delete(f"/jobs/{begun}").status_code == 204
    assert usage(api)["steps_today"]["used"] == 60, "a deleted job has trained all the same"


def test_stored_bytes_are_counted_wherever_they_lie(api: LiveApi) -> None:
    content = draw_png(1)
    dataset = api.client.post("/datasets", json={}).json()["id"]
    api.client.put(f"/datasets/{dataset}/files/a.png", content=content)
    assert usage(api)["stored_bytes"]["used"] == len(content)
    ready = sum(len(draw_png(number)) for number in range(3))
    job = accepted(api)  # with a dataset of three pictures
    assert usage(api)["stored_bytes"]["used"] == len(content) + ready
    worker = Worker(api, job)
    worker.sample(0)
    checkpoint = len(worker.checkpoint(5))
    samples = len(draw_png(0)) + len(draw_png(100))
    assert usage(api)["stored_bytes"]["used"] == len(content) + ready + checkpoint + samples
    adapters = sum(map(len, worker.succeed().values()))
    assert usage(api)["stored_bytes"]["used"] == len(content) + ready + checkpoint + samples + adapters
    api.client.delete(f"/jobs/{job}")
    api.client.delete(f"/datasets/{dataset}")
    assert usage(api)["stored_bytes"]["used"] == ready


def test_storage_that_is_full(api: LiveApi) -> None:
    """Refused before a byte is read where there is no room, and after where this was too much; nothing stays."""
    add_model(api)
    content = draw_png(1)
    limit(api, stored_bytes=len(content) + 10)
    dataset = api.client.post("/datasets", json={}).json()["id"]
    put = f"/datasets/{dataset}/files"
    assert api.client.put(f"{put}/a.png", content=content).status_code == 201
    assert api.client.put(f"{put}/a.png", content=content).status_code == 201, "in the place of itself"
    problem = refuse(api.client.put(f"{put}/b.txt", content=b"x" * 11), 429, "quota-exceeded")
    assert f"{len(content) + 11:,} of {len(content) + 10:,} bytes" in problem["detail"]
    assert len(api.list_stored(f"datasets/{dataset}")) == 1
    assert api.client.put(f"{put}/b.txt", content=b"x" * 10).status_code == 201
    body, before = {"model": MODEL.id, "dataset": add_dataset(api, num_images=1), "trigger": "toy"}, api.list_stored()
    used = usage(api)["stored_bytes"]
    upload = {"files": ("c.png", draw_png(2), "image/png")}
    for answer in (
        api.client.put(f"{put}/c.txt", content=b"x"),
        api.client.post("/datasets", files=upload),
        api.client.post("/adapters", data={"model": MODEL.id}, files={"file": ("x.safetensors", weights_in(10))}),
        api.client.post("/jobs", json=body),
    ):
        refuse(answer, 429, "quota-exceeded")
    assert usage(api)["stored_bytes"] == used
    assert api.list_stored() == before


def test_uploads_that_would_overflow_leave_nothing(api: LiveApi) -> None:
    add_model(api)
    limit(api, stored_bytes=50)
    upload = {"files": ("c.png", draw_png(2), "image/png")}
    refuse(api.client.post("/datasets", files=upload), 429, "quota-exceeded")
    file = {"file": ("x.safetensors", weights_in(51))}
    refuse(api.client.post("/adapters", data={"model": MODEL.id}, files=file), 429, "quota-exceeded")
    assert usage(api)["stored_bytes"]["used"] == 0
    assert api.client.get("/datasets").json()["data"] == api.client.get("/adapters").json()["data"] == []


@pytest.mark.parametrize(
    ("limits", "spec", "pointers"),
    [
        ({"rank": 8}, {"adapter": {"rank": 9}}, ["/adapter/rank"]),
        ({"rank": 8}, {"text_encoder": {"train": True, "rank": 16}}, ["/text_encoder/rank"]),
        ({"resolution": 64}, {"resolution": 72}, ["/resolution"]),
        ({"images_per_dataset": 2}, {}, ["/dataset"]),
        ({"rank": 8, "resolution": 64}, {"adapter": {"rank": 9}, "resolution": 72}, ["/adapter/rank", "/resolution"]),
    ],
)
def test_caps(api: LiveApi, limits: dict[str, int], spec: dict[str, Any], pointers: list[str]) -> None:
    assert submit(api, **spec).status_code == 201
    limit(api, **limits)
    body = make_body(api, **spec)
    for path in ("/jobs", "/jobs?dry_run=true"):
        problem = refuse(api.client.post(path, json=body), 422, "invalid-spec")
        assert list(problem["errors"]) == pointers
        assert "operator" in problem["detail"]


def test_what_a_spec_leaves_open_stays_within_the_caps(api: LiveApi) -> None:
    add_model(api, MODEL.model_copy(update={"id": "wide", "resolution": 128}))
    body = {"model": "wide", "dataset": add_dataset(api)}
    free = api.client.post("/jobs?dry_run=true", json=body).json()["plan"]
    assert (free["rank"] > 3, free["resolution"]) == (True, 128)
    limit(api, rank=3, resolution=100)
    answer = api.client.post("/jobs", json=body)
    assert answer.status_code == 201, answer.text
    plan = answer.json()["plan"]
    assert (plan["rank"], plan["resolution"]) == (3, 96), "a multiple of the model's step"
    assert "adapter" not in answer.json()["spec"], "as it was posted"


def test_a_cap_below_what_a_model_can_learn_at(api: LiveApi) -> None:
    add_model(api, MODEL.model_copy(update={"id": "large", "resolution": 512, "resolution_step": 64}))
    limit(api, resolution=128)
    body = {"model": "large", "dataset": add_dataset(api)}
    assert list(refuse(api.client.post("/jobs", json=body), 422, "invalid-spec")["errors"]) == ["/resolution"]


def test_defaults_are_the_settings_until_the_operator_sets_others(start_api: Callable[..., LiveApi]) -> None:
    api = start_api(quota_queued_jobs=1, quota_running_jobs=3, quota_rank=8)
    assert usage(api)["queued_jobs"] == {"used": 0, "limit": 1}
    assert usage(api)["caps"] == {"images_per_dataset": None, "rank": 8, "resolution": None}
    accepted(api)
    refuse(submit(api), 429, "quota-exceeded")
    path = f"/tenants/{api.tenant_id}/quota"
    answer = api.client.put(path, json={**NONE, "queued_jobs": 2})
    assert (answer.status_code, answer.json()) == (200, usage(api))
    accepted(api)
    refuse(submit(api), 429, "quota-exceeded")
    assert api.client.delete(path).json()["queued_jobs"] == {"used": 2, "limit": 1}
    assert usage(api)["running_jobs"]["limit"] == 3


def test_a_quota_is_given_whole_and_in_bounds(shared_api: LiveApi) -> None:
    path = f"/tenants/{shared_api.tenant_id}/quota"
    for body, pointer in (
        ({"queued_jobs": 1}, "/running_jobs"),
        ({**NONE, "queued_jobs": -1}, "/queued_jobs"),
        ({**NONE, "queued_jobs": 2**63}, "/queued_jobs"),
        ({**NONE, "queued_jobs": "many"}, "/queued_jobs"),
        ({**NONE, "rank": 0}, "/rank"),
        ({**NONE, "rank": 257}, "/rank"),
        ({**NONE, "disk": 1}, "/disk"),
    ):
        assert pointer in refuse(shared_api.client.put(path, json=body), 422, "invalid-request")["errors"], body


def test_the_operator_alone_looks_at_others_and_sets_quotas(
    api: LiveApi, admin: LiveApi, other: LiveApi, shared_api: LiveApi
) -> None:
    accepted(api, steps=10)
    limit(api, queued_jobs=7)
    seen = shared_api.client.get(f"/usage?tenant={api.tenant_id}").json()
    assert seen == usage(api) and seen["tenant"] == api.tenant_id and seen["steps_today"]["used"] == 10
    assert usage(other)["steps_today"]["used"] == 0
    for stranger in (other, admin):
        for tenant in (other.tenant_id if stranger is admin else api.tenant_id, "ten_none"):
            refuse(stranger.client.get(f"/usage?tenant={tenant}"), 403, "forbidden")
            refuse(stranger.client.put(f"/tenants/{tenant}/quota", json=NONE), 403, "forbidden")
            refuse(stranger.client.delete(f"/tenants/{tenant}/quota"), 403, "forbidden")
    assert api.client.get(f"/usage?tenant={api.tenant_id}").json() == usage(api), "one's own may be named"
    for answer in (
        shared_api.client.get("/usage?tenant=ten_none"),
        shared_api.client.put("/tenants/ten_none/quota", json=NONE),
        shared_api.client.delete("/tenants/ten_none/quota"),
    ):
        refuse(answer, 404, "not-found")
    assert shared_api.client.put(f"/tenants/{api.tenant_id}/quota", json={**NONE, "rank": 5}).status_code == 200
    assert usage(api)["caps"]["rank"] == 5 and usage(other)["caps"]["rank"] is None


def test_what_an_import_takes_is_counted(api: LiveApi) -> None:
    add_model(api)
    content = weights_of(b"x" * 288)
    file = {"file": ("ink.safetensors", content)}
    answer = api.client.post("/adapters", data={"model": MODEL.id}, files=file)
    assert answer.status_code == 202, answer.text
    assert usage(api)["stored_bytes"]["used"] == len(content)
