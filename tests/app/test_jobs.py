"""POST /jobs and what can be done to a job: each line of the contract, and each refusal."""

import threading
import time
from typing import Any

import httpx
import pytest

from core.db import job_claims
from core.domain.errors import UserError
from core.domain.states import DatasetStatus, TerminationReason
from tests.app.conftest import LiveApi
from tests.app.factory import MODEL, Worker, add_dataset, add_model, set_status, submit


def post(api: LiveApi, **body: Any) -> httpx.Response:
    """On the toy model and a new dataset, unless the fields say otherwise."""
    add_model(api)
    return api.client.post(
        "/jobs", json={"model": MODEL.id, "dataset": body.pop("dataset", None) or add_dataset(api), **body}
    )


def refuse(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem: dict[str, Any] = answer.json()
    assert (problem["type"], problem["status"], problem["instance"]) == (f"/problems/{slug}", status, answer.url.path)
    assert problem["title"]
    return problem


def test_model_and_dataset_are_enough(api: LiveApi) -> None:
    dataset = add_dataset(api)
    answer = post(api, dataset=dataset)
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert job["id"].startswith("job_")
    assert (job["object"], job["status"], job["phase"], job["attempt"]) == ("job", "queued", None, 0)
    assert (job["model"], job["dataset"], job["spec"], job["metadata"]) == (MODEL.id, dataset, {}, {})
    assert (job["started_at"], job["finished_at"], job["result"], job["error"]) == (None, None, None, None)
    assert job["created_at"].endswith("Z")
    assert job["plan"]["steps"] == MODEL.defaults.min_steps
    assert job["plan"]["num_images"] == 3
    assert "images" not in job["plan"]
    assert job["progress"]["num_steps"] == job["plan"]["steps"]
    assert job["estimate"]["seconds"] > 0
    assert job["urls"] == {
        "self": f"/jobs/{job['id']}",
        "cancel": f"/jobs/{job['id']}/cancel",
        "events": f"/jobs/{job['id']}/events",
        "adapter": f"/jobs/{job['id']}/adapter",
    }
    shown = api.client.get(job["urls"]["self"]).json()
    assert shown.pop("queue_position") == 1 and job.pop("queue_position") is None
    assert shown["progress"].pop("eta_seconds") >= job["estimate"]["seconds"]
    assert job["progress"].pop("eta_seconds") is None
    assert shown == job
    api.wait_for_ring("train")


def test_the_spec_comes_back_as_it_was_posted(api: LiveApi) -> None:
    spec = {
        "trigger": "blip",
        "steps": 20,
        "adapter": {"rank": 4},
        "samples": {"prompts": []},
        "metadata": {"run": "7"},
    }
    job = post(api, **spec, epochs=None).json()
    assert job["spec"] == spec
    assert (job["plan"]["rank"], job["plan"]["steps"], job["metadata"]) == (4, 20, {"run": "7"})


def test_dry_run_says_the_plan_and_queues_nothing(api: LiveApi) -> None:
    add_model(api)
    body = {"model": MODEL.id, "dataset": add_dataset(api), "steps": 100}
    answer = api.client.post("/jobs?dry_run=true", json=body)
    assert answer.status_code == 200
    plan = answer.json()
    assert (plan["object"], plan["plan"]["steps"]) == ("plan", 100)
    assert plan["estimate"]["adapter_bytes"] > 0
    assert plan["estimate"]["peak_memory_bytes"] > 0
    assert plan["estimate"]["seconds"] > 0
    assert api.client.get("/jobs").json()["data"] == []


def test_unknown_model_and_dataset_are_named(api: LiveApi) -> None:
    problem = refuse(post(api, model="sd9"), 404, "not-found")
    assert "/model" in problem["errors"]
    assert "'sd9'" in problem["detail"]
    assert MODEL.id in problem["detail"]
    problem = refuse(post(api, dataset="ds_none"), 404, "not-found")
    assert "/dataset" in problem["errors"]


@pytest.mark.parametrize("status", [DatasetStatus.OPEN, DatasetStatus.VALIDATING, DatasetStatus.REJECTED])
def test_a_dataset_that_is_not_ready_is_refused(api: LiveApi, status: DatasetStatus) -> None:
    dataset = add_dataset(api)
    set_status(api, dataset, status)
    problem = refuse(post(api, dataset=dataset), 409, "wrong-state")
    assert status in problem["detail"]
    assert "/dataset" in problem["errors"]


SPECS_OUT_OF_BOUNDS: list[tuple[dict[str, Any], str]] = [
    ({"adapter": {"rank": 257}}, "/adapter/rank"),
    ({"adapter": {"rank": 0}}, "/adapter/rank"),
    ({"adapter": {"rnak": 4}}, "/adapter/rnak"),
    ({"adapter": 4}, "/adapter"),
    ({"steps": 100_001}, "/steps"),
    ({"steps": "many"}, "/steps"),
    ({"steeps": 10}, "/steeps"),
    ({"webhook": {"url": "ftp://x"}}, "/webhook/url"),
    ({"webhook": {"url": "http://user@example.com"}}, "/webhook/url"),
    ({"webhook": {"url": "http://x", "events": ["job.born"]}}, "/webhook/events/0"),
    ({"webhook": {"url": "http://x", "events": []}}, "/webhook/events"),
    ({"webhook": {"url": "http://x", "secret": "whsec_c2hvcnQ="}}, "/webhook/secret"),
    ({"webhook": {"url": "http://x", "secrets": "x"}}, "/webhook/secrets"),
    ({"webhook": {}}, "/webhook/url"),
    ({"resolution": 63}, "/resolution"),
    ({"resolution": 4096}, "/resolution"),
    ({"resolution": 60 + 9}, "/resolution"),
    ({"optimizer": {"learning_rate": -1}}, "/optimizer/learning_rate"),
    ({"optimizer": {"betas": [0.9, 1.5]}}, "/optimizer/betas"),
    ({"optimizer": {"betas": [0.9, "x"]}}, "/optimizer/betas/1"),
    ({"precision": "fp8"}, "/precision"),
    ({"gradient_checkpointing": "maybe"}, "/gradient_checkpointing"),
    ({"samples": {"prompts": ["good", "bad\n"]}}, "/samples/prompts/1"),
    ({"samples": {"prompts": ["p"] * 17}}, "/samples/prompts"),
    ({"captions": {"template": "{x}"}}, "/captions/template"),
    ({"metadata": {"a/b~c": 1}}, "/metadata/a~1b~0c"),
    ({"name": ""}, "/name"),
    ({"seed": -1}, "/seed"),
    ({"steps": 5, "epochs": 5}, ""),
    ({"metadata": {"a": "\x00"}}, "/metadata/a"),
    ({"model": "a\x00b"}, "/model"),
    ({"samples": {"prompts": ["a cat", "a\x00"]}}, "/samples/prompts/1"),
    ({"metadata": {"\x00": "a"}}, "/metadata"),
    ({"model": 7}, "/model"),
    ({"model": None}, "/model"),
    ({"dataset": "x" * 101}, "/dataset"),
]


def test_specs_out_of_bounds_are_named_by_their_pointer(api: LiveApi) -> None:
    dataset = add_dataset(api)
    for spec, pointer in SPECS_OUT_OF_BOUNDS:
        problem = refuse(post(api, **{"dataset": dataset, **spec}), 422, "invalid-spec")
        assert list(problem["errors"]) == [pointer], (spec, problem)
        assert pointer.partition("/")[2].partition("/")[0] in problem["detail"]
    assert api.client.get("/jobs").json()["data"] == []


def test_an_unknown_field_gets_a_suggestion(api: LiveApi) -> None:
    problem = refuse(post(api, adapter={"rnak": 4}), 422, "invalid-spec")
    assert problem["detail"] == "/adapter/rnak: there is no such field; did you mean adapter.rank?"


def test_a_body_that_is_no_json_object(api: LiveApi) -> None:
    headers = {"Content-Type": "application/json"}
    for content in (
        b"",
        b"[]",
        b'"x"',
        b"null",
        b"{",
        b'{"model": }',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"a": "\\ud800"}',
    ):
        answer = api.client.post("/jobs", content=content, headers=headers)
        assert answer.status_code == 422, (content[:20], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    problem = refuse(api.client.post("/jobs", content=b'{"model": }', headers=headers), 422, "invalid-request")
    assert "character 10" in problem["detail"]


def test_numbers_that_are_none_are_refused(api: LiveApi) -> None:
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        content = f'{{"model": "toy", "dataset": "d", "optimizer": {{"learning_rate": {number}}}}}'
        answer = api.client.post("/jobs", content=content, headers={"Content-Type": "application/json"})
        assert list(refuse(answer, 422, "invalid-spec")["errors"]) == ["/optimizer/learning_rate"]


def test_another_media_type_is_refused(api: LiveApi) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded"):
        answer = api.client.post("/jobs", content=b'{"model": "toy"}', headers={"Content-Type": content_type})
        assert "Content-Type" in refuse(answer, 415, "unsupported-media")["detail"]


def test_a_body_over_a_mebibyte_is_refused(api: LiveApi) -> None:
    refuse(api.client.post("/jobs", json={"name": "x" * 2**20}), 413, "too-large")

    def in_chunks() -> Any:
        yield from [b" " * 65536] * 32

    headers = {"Content-Type": "application/json"}
    refuse(api.client.post("/jobs", content=in_chunks(), headers=headers), 413, "too-large")


def test_more_pixels_than_any_worker_has(api: LiveApi) -> None:
    add_model(api, MODEL.model_copy(update={"id": "large", "resolution": 1024, "resolution_step": 64}))
    problem = refuse(post(api, model="large", batch_size=256, resolution=2048), 422, "invalid-spec")
    assert "/batch_size" in problem["errors"]


def test_neither_captions_nor_trigger(api: LiveApi) -> None:
    problem = refuse(post(api, dataset=add_dataset(api, captions=False)), 422, "invalid-spec")
    assert "/trigger" in problem["errors"]


def test_jobs_are_listed_newest_first_page_by_page(api: LiveApi) -> None:
    ids = [submit(api, name=f"n{number}")["id"] for number in range(5)]
    first = api.client.get("/jobs?limit=2").json()
    assert [job["id"] for job in first["data"]] == [ids[4], ids[3]]
    assert (first["object"], first["has_more"], first["first_id"], first["last_id"]) == ("list", True, ids[4], ids[3])
    second = api.client.get(f"/jobs?limit=3&after={first['last_id']}").json()
    assert ([job["id"] for job in second["data"]], second["has_more"]) == ([ids[2], ids[1], ids[0]], False)
    empty = api.client.get(f"/jobs?after={ids[0]}").json()
    assert empty == {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}


def test_jobs_are_filtered_by_status_and_model(api: LiveApi) -> None:
    waiting, gone = submit(api)["id"], submit(api)["id"]
    api.client.post(f"/jobs/{gone}/cancel")
    assert [job["id"] for job in api.client.get("/jobs?status=queued").json()["data"]] == [waiting]
    assert [job["id"] for job in api.client.get("/jobs", params={"text": gone[-9:].upper()}).json()["data"]] == [gone]
    assert api.client.get("/jobs?text=%25").json()["data"] == [], "a wildcard is a letter"
    assert [job["id"] for job in api.client.get("/jobs?status=canceled&model=toy").json()["data"]] == [gone]
    assert api.client.get("/jobs?model=other").json()["data"] == []


def test_bad_filters_are_refused(api: LiveApi) -> None:
    for query in ("limit=0", "limit=101", "limit=x", "status=done", "model=%00", "after=%00", "wait=1&limit=-5"):
        answer = api.client.get(f"/jobs?{query}")
        problem = refuse(answer, 422, "invalid-request")
        assert next(iter(problem["errors"])).startswith("/query/")


def test_ids_that_nobody_has(api: LiveApi) -> None:
    for job_id in ("job_none", "%00", "x" * 200, "job_%F0%9F%98%80", "..%2f..%2fetc"):
        refuse(api.client.get(f"/jobs/{job_id}"), 404, "not-found")


def test_cancel_a_queued_job_ends_it_at_once(api: LiveApi) -> None:
    job = submit(api)
    answer = api.client.post(f"/jobs/{job['id']}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "canceled")
    assert answer.json()["finished_at"] is not None
    problem = refuse(api.client.post(f"/jobs/{job['id']}/pause"), 409, "wrong-state")
    assert "canceled" in problem["detail"]


def test_cancel_a_running_job_asks_its_worker(api: LiveApi) -> None:
    job = submit(api)
    worker = Worker(api, job["id"])
    assert api.client.post(f"/jobs/{job['id']}/cancel").json()["status"] == "canceling"
    assert api.client.post(f"/jobs/{job['id']}/cancel").status_code == 202
    worker.write(job_claims.acknowledge_stop, worker.claim)
    assert api.client.get(f"/jobs/{job['id']}").json()["status"] == "canceled"


def test_pause_and_resume(api: LiveApi) -> None:
    job = submit(api)
    url = f"/jobs/{job['id']}"
    refuse(api.client.post(f"{url}/resume"), 409, "wrong-state")
    assert api.client.post(f"{url}/pause").json()["status"] == "paused"
    api.broker.delete("train")
    answer = api.client.post(f"{url}/resume")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    api.wait_for_ring("train")
    worker = Worker(api, job["id"])
    assert api.client.post(f"{url}/pause").json()["status"] == "pausing"
    worker.write(job_claims.acknowledge_stop, worker.claim)
    assert api.client.get(url).json()["status"] == "paused"


def test_a_running_job_shows_its_phase_and_progress(api: LiveApi) -> None:
    job = submit(api)
    worker = Worker(api, job["id"])
    worker.train(4)
    shown = api.client.get(f"/jobs/{job['id']}").json()
    assert (shown["status"], shown["phase"], shown["attempt"]) == ("running", "loading", 1)
    assert shown["progress"] == {
        "step": 4, "num_steps": 10, "percent": 40.0, "seconds_per_step": 0.2, "eta_seconds": pytest.approx(1.2),
        "loss": 0.25, "units_done": None, "units_total": None,
    }  # fmt: skip


def test_a_succeeded_job_shows_its_result(api: LiveApi) -> None:
    job = submit(api)
    worker = Worker(api, job["id"])
    worker.sample(10)
    contents = worker.succeed()
    shown = api.client.get(f"/jobs/{job['id']}").json()
    assert (shown["status"], shown["phase"]) == ("succeeded", None)
    for name, file in shown["result"]["adapter"].items():
        assert api.client.get(file["url"]).content == contents[name]
        assert file["size"] == len(contents[name])
    assert api.client.get(shown["result"]["samples"]["grid_url"]).status_code == 200
    assert shown["result"]["metrics"]["loss"] == 0.05


def test_a_failed_job_shows_why(api: LiveApi) -> None:
    job = submit(api)
    worker = Worker(api, job["id"])
    worker.write(job_claims.fail, worker.claim, TerminationReason.NAN_LOSS, "The loss at step 7 was NaN")
    shown = api.client.get(f"/jobs/{job['id']}").json()
    assert (shown["status"], shown["result"]) == ("failed", None)
    assert shown["error"]["type"] == "/problems/nan-loss"
    assert "learning_rate" in shown["error"]["detail"]


def test_delete_takes_an_ended_job_and_its_files(api: LiveApi) -> None:
    job = submit(api)
    url = f"/jobs/{job['id']}"
    refuse(api.client.delete(url), 409, "wrong-state")
    worker = Worker(api, job["id"])
    worker.succeed()
    assert len(api.list_stored(f"jobs/{job['id']}")) == 2
    assert api.client.delete(url).status_code == 204
    refuse(api.client.get(url), 404, "not-found")
    assert api.list_stored(f"jobs/{job['id']}") == []


def test_wait_returns_when_the_status_changes(api: LiveApi) -> None:
    job = submit(api)
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(api.client.get(f"/jobs/{job['id']}?wait=60")))
    waiting.start()
    time.sleep(0.3)
    assert answers == []
    Worker(api, job["id"])
    waiting.join(30)
    assert answers[0].json()["status"] == "running"


def test_wait_gives_up_after_its_seconds_and_does_not_wait_for_the_dead(api: LiveApi) -> None:
    job = submit(api)
    started = time.monotonic()
    assert api.client.get(f"/jobs/{job['id']}?wait=0.5").json()["status"] == "queued"
    assert time.monotonic() - started >= 0.5
    api.client.post(f"/jobs/{job['id']}/cancel")
    assert api.client.get(f"/jobs/{job['id']}?wait=60").json()["status"] == "canceled"
    for wait in ("-1", "61", "nan", "x"):
        refuse(api.client.get(f"/jobs/{job['id']}?wait={wait}"), 422, "invalid-request")


def test_every_error_of_the_tree_has_a_status() -> None:
    from app.problems import STATUS_OF

    def walk(kind: type[UserError]) -> set[str]:
        return {kind.slug}.union(*(walk(below) for below in kind.__subclasses__()))

    assert walk(UserError) - {"internal"} <= set(STATUS_OF)
    assert all(400 <= STATUS_OF[slug] < 500 for slug in walk(UserError) - {"internal"})
