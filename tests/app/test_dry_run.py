"""What a dry run says beside the plan, and what it refuses because nothing here could run it."""

from core.db.workers import record_worker
from tests.app.conftest import LiveApi
from tests.app.factory import add_dataset, add_model
from tests.app.test_jobs import post as post_job
from tests.app.test_jobs import refuse


def test_a_dry_run_tells_of_pictures_that_are_cropped_or_enlarged(api: LiveApi) -> None:
    body = {"model": add_model(api), "dataset": add_dataset(api), "trigger": "toy"}
    answer = api.client.post("/jobs?dry_run=true", json=body)
    assert answer.json()["warnings"] == []
    answer = api.client.post("/jobs?dry_run=true", json={**body, "resolution": 128})
    [warning] = answer.json()["warnings"]
    assert (warning["code"], warning["field"]) == ("enlarged", "/resolution")
    assert "3 of 3 images" in warning["message"] and "2.0 times" in warning["message"]


def test_a_blank_trigger_is_refused(api: LiveApi) -> None:
    for trigger in ("   ", "\u200b"):
        problem = refuse(post_job(api, dataset=add_dataset(api), trigger=trigger), 422, "invalid-spec")
        assert problem["errors"] == {"/trigger": ["is blank: give visible text, or leave it out"]}


def test_an_optimizer_that_no_device_here_runs_is_refused(own_api: LiveApi) -> None:
    def note_worker(device: str) -> None:
        with own_api.sessions.begin() as session:
            record_worker(
                session,
                worker_id=device,
                device=device,
                device_name="one",
                memory_bytes=None,
                job_id=None,
                warm_models=(),
            )

    body = {"model": add_model(own_api), "dataset": add_dataset(own_api), "optimizer": {"name": "adamw8bit"}}
    assert own_api.client.post("/jobs?dry_run=true", json=body).status_code == 200, "no worker was heard of yet"
    note_worker("cpu")
    for path in ("/jobs?dry_run=true", "/jobs"):
        problem = refuse(own_api.client.post(path, json=body), 422, "invalid-spec")
        assert list(problem["errors"]) == ["/optimizer/name"]
        assert "CUDA" in problem["detail"] and "adamw" in problem["detail"]
    note_worker("cuda:1")
    assert own_api.client.post("/jobs?dry_run=true", json=body).status_code == 200
