"""Jobs with several datasets."""

from typing import Any

import httpx

from core.db.tables import Job
from core.domain.states import DatasetStatus
from tests.app.conftest import LiveApi
from tests.app.factory import add_dataset, add_model, set_status


def post(api: LiveApi, dataset: str, *others: dict[str, Any], dry_run: bool = False) -> httpx.Response:
    body = {"model": add_model(api), "dataset": dataset, "datasets": others, "trigger": "toy", "steps": 10}
    return api.client.post("/jobs", params={"dry_run": dry_run}, json=body)


def test_a_job_trains_on_several_sets(api: LiveApi) -> None:
    first, second, third = (add_dataset(api, num_images=count) for count in (3, 2, 4))
    others = ({"id": second, "trigger": "ball", "repeats": 2, "weight": 0.5}, {"id": third, "prior": True})
    planned = post(api, first, *others, dry_run=True)
    assert (planned.status_code, planned.json()["plan"]["num_images"]) == (200, 5)
    made = post(api, first, *others)
    assert made.status_code == 201, made.text
    job = made.json()
    assert (job["dataset"], job["spec"]["datasets"]) == (first, list(others))
    with api.sessions() as session:
        plan = session.get_one(Job, job["id"]).plan
    assert [(image["caption"], image["repeats"], image["weight"]) for image in plan["images"][2:4]] == [
        ("toy number 2", 1, 1.0),
        ("ball, toy number 0", 2, 0.5),
    ]
    assert len(plan["class_images"]) == plan["prior_num_images"] == 4


def test_none_of_its_sets_is_deleted_before_the_job(api: LiveApi) -> None:
    first, second = add_dataset(api), add_dataset(api)
    job = post(api, first, {"id": second}).json()
    for dataset in (first, second):
        refused = api.client.delete(f"/datasets/{dataset}")
        assert (refused.status_code, job["id"] in refused.json()["detail"]) == (409, True)
    api.client.post(f"/jobs/{job['id']}/cancel").raise_for_status()
    api.client.delete(f"/jobs/{job['id']}").raise_for_status()
    for dataset in (first, second):
        assert api.client.delete(f"/datasets/{dataset}").status_code == 204


def test_faults_are_named_by_their_place(api: LiveApi) -> None:
    first, second = add_dataset(api), add_dataset(api)
    missing = post(api, first, {"id": second}, {"id": "ds_none"})
    assert (missing.status_code, list(missing.json()["errors"])) == (404, ["/datasets/1/id"])
    set_status(api, second, DatasetStatus.VALIDATING)
    early = post(api, first, {"id": second})
    assert (early.status_code, list(early.json()["errors"])) == (409, ["/datasets/0/id"])
    assert post(api, first, {"id": first}).status_code == 422
    assert post(api, first, {"id": "a"}, {"id": "a"}).status_code == 422
    assert post(api, first, *({"id": f"ds_{number}"} for number in range(9))).status_code == 422
    assert post(api, first, {"id": second, "prior": True, "trigger": "x"}).status_code == 422
