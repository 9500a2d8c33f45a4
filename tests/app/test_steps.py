"""A job's steps: their adapters, the promotion of one, and samples that are requested while it runs."""

from typing import Any

import pytest

from core.db import promotions, references, usage
from core.db.promotions import PromotionClaim
from core.domain.proof import LoadProof, ToolProof
from tests.app.conftest import LiveApi
from tests.app.factory import MODEL, Worker, submit

PROOF = LoadProof(
    format="kohya",
    family="sd1",
    tools=(
        ToolProof(tool="diffusers", required=True, loads=True, verdict="same", num_keys=3, num_resolved=3, notes=()),
    ),
)


def train(api: LiveApi, *steps: int, **spec: Any) -> tuple[Worker, dict[int, dict[str, bytes]]]:
    """A job that runs, and has kept the adapters of these steps."""
    worker = Worker(api, submit(api, **spec)["id"])
    worker.train(10)
    kept = {}
    for step in steps:
        worker.sample(step)
        kept[step] = worker.keep_adapter(step)
    return worker, kept


def claim(api: LiveApi, job_id: str) -> PromotionClaim:
    """Others, of other tests, are claimed before it."""
    with api.sessions.begin() as session:
        while (claimed := promotions.claim_promotion(session, lease_seconds=3600)) is not None:
            if claimed.job_id == job_id:
                return claimed
    raise AssertionError(f"no promotion of {job_id} waits")


def promote(api: LiveApi, job_id: str, step: int) -> None:
    """As a worker does it."""
    answer = api.client.post(f"/jobs/{job_id}/promote", params={"wait": 0}, json={"step": step})
    assert (answer.status_code, answer.json()["status"]) == (202, "checking"), answer.text
    claimed = claim(api, job_id)
    with api.sessions.begin() as session:
        assert promotions.commit_promotion(session, claimed, {"kohya": PROOF})


def test_every_kept_step_is_listed_and_downloaded_while_the_job_runs(api: LiveApi) -> None:
    worker, kept = train(api, 4, 8)
    rows = api.client.get(f"/jobs/{worker.job_id}/steps").json()["data"]
    assert [(row["step"], row["loss"], row["is_promoted"]) for row in rows] == [(4, 1 / 4, False), (8, 1 / 8, False)]
    assert rows[0]["grid_url"] == f"/jobs/{worker.job_id}/samples/4/grid.png"
    assert api.client.get(rows[0]["grid_url"]).status_code == 200
    for row in rows:
        for name, file in row["files"].items():
            answer = api.client.get(file["url"])
            assert answer.content == kept[row["step"]][name]
            assert answer.headers["etag"] == f'"{file["sha256"]}"'
    assert api.client.get(f"/jobs/{worker.job_id}/adapter").status_code == 409
    missing = api.client.get(f"/jobs/{worker.job_id}/adapter", params={"step": 5})
    assert missing.status_code == 404 and "GET /jobs/" in missing.json()["detail"]


def test_the_jobs_own_adapter_is_among_its_steps(api: LiveApi) -> None:
    worker, _ = train(api, 4, 10)
    own = worker.succeed()
    rows = api.client.get(f"/jobs/{worker.job_id}/steps").json()["data"]
    assert [(row["step"], row["is_promoted"]) for row in rows] == [(4, False), (10, True)]
    for name in ("kohya", "diffusers"):
        assert api.client.get(rows[1]["files"][name]["url"]).content == own[name]


def test_of_the_last_step_alone_the_others_are_forgotten(api: LiveApi) -> None:
    worker, _ = train(api, 4)
    keys = {file.key for file in api.storage.list(f"jobs/{worker.job_id}") if "step-4" in file.key}
    worker.keep_adapter(8, alone=True)
    assert [row["step"] for row in api.client.get(f"/jobs/{worker.job_id}/steps").json()["data"]] == [8]
    worker.succeed()
    with api.sessions() as session:
        named = references.list_job_references(session, worker.job_id)
    assert named is not None and keys and not keys & named


def test_the_files_of_steps_count_as_storage_once(api: LiveApi) -> None:
    worker, _ = train(api)
    before = measure(api)
    kept = worker.keep_adapter(4)
    size = sum(map(len, kept.values()))
    assert measure(api) == before + size
    worker.keep_adapter(10)
    own = sum(map(len, worker.succeed().values()))
    assert measure(api) == before + size + own
    promote(api, worker.job_id, 4)
    assert measure(api) == before + size + own
    with api.sessions() as session:
        named = references.list_job_references(session, worker.job_id) or frozenset()
    assert sum("step-4" in key for key in named) == 2
    api.client.delete(f"/jobs/{worker.job_id}").raise_for_status()
    assert not list(api.storage.list(f"jobs/{worker.job_id}"))
    with api.sessions() as session:
        assert usage.sum_stored_bytes(session, api.tenant_id) == before


def measure(api: LiveApi) -> int:
    return int(api.client.get("/usage").json()["stored_bytes"]["used"])


def test_another_step_becomes_the_jobs_adapter(api: LiveApi) -> None:
    worker, kept = train(api, 4, 8)
    own = worker.succeed()
    before = api.client.get(f"/jobs/{worker.job_id}").json()
    old = api.client.get(f"/jobs/{worker.job_id}/adapter")
    assert old.content == own["kohya"]
    promote(api, worker.job_id, 4)

    job = api.client.get(f"/jobs/{worker.job_id}").json()
    assert api.client.get(f"/jobs/{worker.job_id}/promotion").json()["status"] == "done"
    metrics, result = job["result"]["metrics"], job["result"]
    assert (job["status"], metrics["step"], metrics["loss"], metrics["retention"]) == ("succeeded", 4, 0.25, None)
    assert result["samples"]["step"] == 4
    assert "step 4" in result["note"] and "step 10" in result["note"]
    assert result["proofs"]["kohya"]["tools"][0]["verdict"] == "same"
    new = api.client.get(f"/jobs/{worker.job_id}/adapter", headers={"If-None-Match": old.headers["etag"]})
    assert new.status_code == 200 and new.content == kept[4]["kohya"]
    assert api.client.get(f"/jobs/{worker.job_id}/adapter?format=diffusers").content == kept[4]["diffusers"]
    adapter_id = before["result"]["adapter_id"]
    assert api.client.get(f"/adapters/{adapter_id}/download").content == kept[4]["kohya"]
    assert api.client.get(f"/adapters/{adapter_id}").json()["metrics"]["step"] == 4
    events = api.client.get(f"/jobs/{worker.job_id}/events").json()["data"]
    assert (events[-1]["type"], events[-1]["data"]) == ("job.promoted", {"step": 4, "adapter_id": adapter_id})
    rows = api.client.get(f"/jobs/{worker.job_id}/steps").json()["data"]
    assert [row["step"] for row in rows if row["is_promoted"]] == [4]

    promote(api, worker.job_id, 10)
    again = api.client.get(f"/jobs/{worker.job_id}").json()["result"]
    assert {**again, "proofs": None} == {**before["result"], "proofs": None}
    assert api.client.get(f"/jobs/{worker.job_id}/adapter").content == own["kohya"]


def test_a_promotion_is_requested_of_finished_jobs_and_one_at_a_time(api: LiveApi) -> None:
    worker, _ = train(api, 4, 8)
    url = f"/jobs/{worker.job_id}/promote?wait=0"
    assert api.client.get(f"/jobs/{worker.job_id}/promotion").status_code == 404
    early = api.client.post(url, json={"step": 4})
    assert (early.status_code, early.json()["type"]) == (409, "/problems/wrong-state")
    worker.succeed()
    assert api.client.post(url, json={"step": 5}).status_code == 404
    assert api.client.post(url, json={"step": 0}).status_code == 422
    present = api.client.post(url, json={"step": 10})
    assert (present.status_code, present.json()["status"]) == (200, "done")
    first, again = (api.client.post(url, json={"step": 4}) for _ in range(2))
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]
    assert api.client.post(url, json={"step": 8}).status_code == 409


def test_a_promotion_that_fails_changes_nothing(api: LiveApi) -> None:
    worker, _ = train(api, 4)
    own = worker.succeed()
    api.client.post(f"/jobs/{worker.job_id}/promote?wait=0", json={"step": 4})
    claimed = claim(api, worker.job_id)
    with api.sessions.begin() as session:
        assert promotions.fail_promotion(session, claimed, "A file of step 4 is gone from storage.")
        assert not promotions.commit_promotion(session, claimed, {"kohya": PROOF})
    shown = api.client.get(f"/jobs/{worker.job_id}/promotion").json()
    assert (shown["status"], shown["error"]["detail"]) == ("failed", "A file of step 4 is gone from storage.")
    assert api.client.get(f"/jobs/{worker.job_id}/adapter").content == own["kohya"]


def test_a_job_that_is_deleted_takes_its_promotion_along(api: LiveApi) -> None:
    worker, _ = train(api, 4)
    worker.succeed()
    api.client.post(f"/jobs/{worker.job_id}/promote?wait=0", json={"step": 4})
    claimed = claim(api, worker.job_id)
    api.client.delete(f"/jobs/{worker.job_id}").raise_for_status()
    with api.sessions.begin() as session:
        assert not promotions.commit_promotion(session, claimed, {"kohya": PROOF})


def test_samples_are_requested_while_a_job_runs(api: LiveApi) -> None:
    job_id = submit(api)["id"]
    url, body = f"/jobs/{job_id}/samples", {"prompts": ["a large {trigger} on blue"], "seed": 5}
    assert api.client.post(url, json=body).status_code == 409
    worker = Worker(api, job_id)
    made = api.client.post(url, json=body)
    assert made.status_code == 202
    request = made.json()
    assert (request["status"], request["prompts"], request["step"]) == ("waiting", ["a large toy on blue"], None)
    picture = worker.draw_requested(request["id"], 7)
    drawn = api.client.get(made.headers["location"]).json()
    assert (drawn["status"], drawn["step"]) == ("drawn", 7)
    assert api.client.get(drawn["images"][0]["url"]).content == picture
    assert api.client.get(f"{made.headers['location']}/1.png").status_code == 404
    assert [row["id"] for row in api.client.get(f"{url}/requests").json()["data"]] == [request["id"]]
    event = api.client.get(f"/jobs/{job_id}/events").json()["data"][-1]
    assert (event["type"], event["data"]) == ("job.requested_samples", {"step": 7, "request": request["id"]})
    with api.sessions() as session:
        worker.succeed()
        named = references.list_job_references(session, job_id) or frozenset()
    assert [key for key in named if request["id"] in key]


def test_a_request_that_the_job_did_not_live_to_see_is_missed(api: LiveApi) -> None:
    job_id = submit(api)["id"]
    worker = Worker(api, job_id)
    made = api.client.post(f"/jobs/{job_id}/samples", json={"prompts": ["a toy"]})
    worker.succeed()
    assert api.client.get(made.headers["location"]).json()["status"] == "missed"


def test_requests_for_samples_are_bounded(api: LiveApi) -> None:
    job_id = submit(api)["id"]
    Worker(api, job_id)
    url = f"/jobs/{job_id}/samples"
    for body in ({"prompts": []}, {"prompts": ["a"] * 9}, {"prompts": [" "]}, {}, {"prompts": ["a"], "seed": -1}):
        assert api.client.post(url, json=body).status_code == 422, body
    for _ in range(5):
        assert api.client.post(url, json={"prompts": ["a toy"]}).status_code == 202
    assert api.client.post(url, json={"prompts": ["a toy"]}).status_code == 429


def test_a_generation_names_a_step_of_a_running_job(api: LiveApi) -> None:
    worker, _ = train(api, 4)
    stack = [{"job": worker.job_id, "step": 4, "weight": 0.5}]
    made = api.client.post("/generations", json={"model": MODEL.id, "prompts": ["a toy"], "adapters": stack})
    assert made.status_code == 201, made.text
    assert made.json()["adapters"] == [
        {"id": None, "job": worker.job_id, "step": 4, "name": "toy, step 4", "weight": 0.5}
    ]


@pytest.mark.parametrize(
    ("adapter", "status"),
    [
        ({}, 422),
        ({"job": "JOB"}, 422),
        ({"step": 4}, 422),
        ({"id": "ad_1", "job": "JOB", "step": 4}, 422),
        ({"job": "JOB", "step": 5}, 404),
        ({"job": "job_none", "step": 4}, 404),
    ],
)
def test_a_generation_names_each_adapter_once(api: LiveApi, adapter: dict[str, Any], status: int) -> None:
    worker, _ = train(api, 4)
    named = {key: worker.job_id if value == "JOB" else value for key, value in adapter.items()}
    body = {"model": MODEL.id, "prompts": ["a toy"], "adapters": [named]}
    assert api.client.post("/generations", json=body).status_code == status
