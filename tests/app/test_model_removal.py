"""DELETE /models/{id}: what is needed stays, and an operator's own files do too."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.db import models as db
from core.db.tables import AuditEntry
from core.model_folders import BUNDLED, MADE_HERE, NOTE
from tests.app.conftest import LiveApi, as_tenant, with_scopes
from tests.app.factory import Worker, add_dataset, submit
from tests.app.test_jobs import refuse
from tests.app.test_models import write_base


def register(api: LiveApi, name: str) -> Path:
    folder = write_base(api.settings.models_path / name, name)
    assert api.client.post("/models", json={"path": name}).json()["status"] == "ready"
    return folder


def reject(api: LiveApi, model_id: str) -> None:
    with api.sessions.begin() as session:
        claim = db.claim_check(session)
        assert claim is not None and claim.model_id == model_id
        db.reject_check(session, claim, "It is a teapot.")
        db.release_check(session, claim)


def test_a_rejected_model_goes(own_api: LiveApi) -> None:
    own_api.client.post("/models", json={"hub_id": "some/teapot"})
    reject(own_api, "teapot")
    answer = own_api.client.delete("/models/teapot")
    assert (answer.status_code, answer.content) == (204, b"")
    refuse(own_api.client.get("/models/teapot"), 404, "not-found")
    refuse(own_api.client.delete("/models/teapot"), 404, "not-found")
    assert "teapot" not in own_api.client.get("/models").text
    with own_api.sessions() as session:
        actions = [entry.action for entry in session.query(AuditEntry).filter_by(target_id="teapot")]
    assert sorted(actions) == ["model.deleted", "model.registered"]


def test_an_operators_folder_stays_and_is_not_found_again_by_the_next_start(
    start_api: Callable[..., LiveApi], tmp_path: Path
) -> None:
    api = start_api()
    folder = register(api, "mine")
    assert api.client.delete("/models/mine").status_code == 204
    assert (folder / "atelier.json").is_file()
    api = start_api()
    refuse(api.client.get("/models/mine"), 404, "not-found")
    assert "mine" not in [model["id"] for model in api.client.get("/models").json()["data"]]
    assert api.client.post("/models", json={"path": "mine"}).json()["status"] == "ready"
    assert start_api().client.get("/models/mine").json()["status"] == "ready"


def test_a_folder_that_the_service_made_goes_with_its_model(own_api: LiveApi) -> None:
    folder = register(own_api, "fetched")
    (folder / NOTE).write_text(f"{MADE_HERE}: it is replaced when fetched is registered again.\n")
    assert own_api.client.delete("/models/fetched").status_code == 204
    assert list(own_api.settings.models_path.iterdir()) == []


def test_what_a_job_or_an_adapter_needs_stays(own_api: LiveApi) -> None:
    folder = register(own_api, "needed")
    body = {"dataset": add_dataset(own_api), "trigger": "toy", "steps": 5, "model": "needed"}
    job = own_api.client.post("/jobs", json=body).json()["id"]
    problem = refuse(own_api.client.delete("/models/needed"), 409, "wrong-state")
    assert job in problem["detail"]
    Worker(own_api, job).succeed()
    refuse(own_api.client.delete("/models/needed"), 409, "wrong-state")
    assert own_api.client.get("/models/needed").json()["status"] == "ready"
    assert own_api.client.delete(f"/jobs/{job}").status_code == 204
    assert own_api.client.delete("/models/needed").status_code == 204
    assert folder.is_dir()


def test_what_another_tenant_needs_stays_and_is_not_named(own_api: LiveApi) -> None:
    folder = register(own_api, "needed")
    with as_tenant(own_api) as other:
        job = submit(other, model="needed")["id"]
    problem = refuse(own_api.client.delete("/models/needed"), 409, "wrong-state")
    assert "other tenants" in problem["detail"] and job not in problem["detail"]
    assert folder.is_dir() and own_api.client.get("/models/needed").status_code == 200


def test_what_a_worker_holds_right_now_stays(own_api: LiveApi) -> None:
    own_api.client.post("/models", json={"hub_id": "some/base"})
    with own_api.sessions() as session:
        claim = db.claim_check(session)
        assert claim is not None
        problem = refuse(own_api.client.delete("/models/base"), 409, "wrong-state")
        assert "preparing" in problem["detail"]
        db.release_check(session, claim)
    assert own_api.client.delete("/models/base").status_code == 204


def test_bundled_models_stay(own_api: LiveApi) -> None:
    bundled = [folder.name for folder in BUNDLED.iterdir() if (folder / "atelier.json").is_file()]
    assert "tiny" in bundled
    for model_id in bundled:
        problem = refuse(own_api.client.delete(f"/models/{model_id}"), 409, "wrong-state")
        assert "comes with the service" in problem["detail"]


@pytest.mark.parametrize("scope", ["read", "jobs", "admin"])
def test_models_are_the_operators(api: LiveApi, scope: str) -> None:
    with with_scopes(api, scope) as caller:
        refuse(caller.client.delete("/models/tiny"), 403, "forbidden")


def test_only_models_that_jobs_can_use_are_offered(own_api: LiveApi) -> None:
    own_api.client.post("/models", json={"hub_id": "x/y"})
    reject(own_api, "y")
    own_api.client.post("/models", json={"hub_id": "x/waiting"})
    body = {"model": "tinyy", "dataset": add_dataset(own_api)}
    problem = refuse(own_api.client.post("/jobs", json=body), 404, "not-found")
    assert problem["detail"].endswith("Did you mean 'tiny'? Registered are: tiny.")


def test_a_missing_path_names_the_models_directory(own_api: LiveApi) -> None:
    own_api.settings.models_path.mkdir(exist_ok=True)
    for path in ("nope.safetensors", "../outside"):
        problem = refuse(own_api.client.post("/models", json={"path": path}), 422, "model-rejected")
        assert str(own_api.settings.models_path) in problem["detail"]
