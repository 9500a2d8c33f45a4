"""Base models: found at the start, read by all, registered by the operator."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.models.folders import PARTS, PARTS_WITH_WEIGHTS, find_models
from core.db import models as db
from core.db.tables import Model
from core.model_folders import find_model_folder
from tests.app.conftest import LiveApi
from tests.app.factory import MODEL, add_dataset
from tests.app.test_jobs import refuse


def write_base(folder: Path, model_id: str = "mine", *, without: str = "") -> Path:
    """A folder in diffusers' layout, of empty files."""
    names = ["model_index.json", *(f"{part}/config.json" for part in PARTS)]
    names += [f"{part}/model.safetensors" for part in PARTS_WITH_WEIGHTS]
    for name in names:
        if not (without and name.startswith(without)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    if without != "atelier.json":
        card = MODEL.model_copy(update={"id": model_id})
        (folder / "atelier.json").write_text(card.model_dump_json())
    return folder


def test_models_on_disk_are_registered_at_the_start(start_api: Callable[..., LiveApi], tmp_path: Path) -> None:
    write_base(tmp_path / "models" / "folder-name", "mine")
    api = start_api()
    page = api.client.get("/models").json()
    model = next(row for row in page["data"] if row["id"] == "mine")
    assert (model["object"], model["family"], model["resolution"], model["status"]) == ("model", "sd1", 64, "ready")
    assert (model["sha256"], model["description"]) == (MODEL.sha256, MODEL.description)
    assert model["defaults"]["rank"] == MODEL.defaults.rank
    assert "location" not in model
    assert api.client.get("/models/mine").json() == model
    with api.sessions() as session:
        assert session.get_one(Model, "mine").location == str(tmp_path / "models" / "folder-name")


def test_a_start_leaves_a_model_that_is_being_prepared_to_its_worker(
    start_api: Callable[..., LiveApi], tmp_path: Path
) -> None:
    write_base(tmp_path / "models" / "mine")
    write_base(tmp_path / "models" / "other", "other")
    api = start_api()
    assert api.client.post("/models", json={"hub_id": "some/base", "id": "mine"}).json()["status"] == "checking"
    api = start_api()
    assert api.client.get("/models/mine").json()["status"] == "checking"
    assert api.client.get("/models/other").json()["status"] == "ready"
    with api.sessions() as session:
        source = session.get_one(Model, "mine").source
    assert source is not None and source["hub_id"] == "some/base", "the worker commits under what it was asked for"


def test_the_operators_model_stands_over_a_bundled_one(tmp_path: Path) -> None:
    write_base(tmp_path / "bundled" / "a", "tiny")
    write_base(tmp_path / "own" / "b", "tiny")
    assert [folder.path.name for folder in find_models(tmp_path / "bundled", tmp_path / "own")] == ["b"]


def test_folders_that_are_no_bases_are_passed_over_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_base(tmp_path / "good")
    write_base(tmp_path / "no-card", without="atelier.json")
    (write_base(tmp_path / "bad-card") / "atelier.json").write_text('{"id": 5}')
    (tmp_path / "README.md").touch()
    with caplog.at_level(logging.WARNING):
        assert [folder.path.name for folder in find_models(tmp_path, tmp_path / "none")] == ["good"]
    assert "no-card" in caplog.text
    assert "bad-card" in caplog.text
    assert "README" not in caplog.text


def test_an_unknown_model(api: LiveApi) -> None:
    refuse(api.client.get("/models/none"), 404, "not-found")


def test_the_operator_registers_a_prepared_folder(own_api: LiveApi) -> None:
    models = own_api.settings.models_path
    write_base(models / "new", "newer")
    answer = own_api.client.post("/models", json={"path": "new"})
    assert (answer.status_code, answer.headers["location"]) == (201, "/models/newer")
    assert answer.json()["status"] == "ready"
    assert answer.json() == own_api.client.get("/models/newer").json()
    assert own_api.client.post("/models", json={"path": "new"}).status_code == 201
    assert own_api.client.post("/models", json={"path": str(models / "new"), "id": "newer"}).status_code == 201


@pytest.mark.parametrize(
    ("body", "model_id"),
    [
        ({"path": "bare"}, "bare"),
        ({"path": "carded", "id": "other-name"}, "other-name"),
        ({"path": "sub/Some Model (v2).safetensors"}, "some-model-v2"),
        ({"path": "sub/Some Model (v2).safetensors", "id": "some", "prediction_type": "v_prediction"}, "some"),
        ({"hub_id": "stabilityai/stable-diffusion-2-1", "resolution": 768}, "stable-diffusion-2-1"),
    ],
)
def test_what_has_no_card_waits_for_a_worker(own_api: LiveApi, body: dict[str, object], model_id: str) -> None:
    models = own_api.settings.models_path
    write_base(models / "bare", without="atelier.json")
    write_base(models / "carded")
    (models / "sub").mkdir()
    (models / "sub" / "Some Model (v2).safetensors").touch()
    answer = own_api.client.post("/models", json=body)
    assert (answer.status_code, answer.headers["location"]) == (201, f"/models/{model_id}")
    shown = answer.json()
    assert (shown["id"], shown["status"], shown["family"], shown["error"]) == (model_id, "checking", None, None)
    assert shown in own_api.client.get("/models").json()["data"]
    own_api.wait_for_ring("train")
    own_api.wait_for_ring("cpu")
    with own_api.sessions() as session:
        source = session.get_one(Model, model_id).source
    assert source is not None and {key: value for key, value in source.items() if key in body} == {
        key: value for key, value in body.items() if key != "id"
    }


def test_jobs_wait_for_their_model(own_api: LiveApi) -> None:
    (own_api.settings.models_path / "bare").mkdir(parents=True)
    own_api.client.post("/models", json={"path": "bare"})
    body = {"model": "bare", "dataset": add_dataset(own_api)}
    problem = refuse(own_api.client.post("/jobs", json=body), 409, "wrong-state")
    assert "is checking: wait until GET /models/bare says ready" in problem["detail"]
    with own_api.sessions.begin() as session:
        claim = db.claim_check(session)
        assert claim is not None
        db.reject_check(session, claim, "It is a teapot.")
        db.release_check(session, claim)
    shown = own_api.client.get("/models/bare").json()
    assert (shown["status"], shown["error"]["detail"]) == ("rejected", "It is a teapot.")
    problem = refuse(own_api.client.post("/jobs", json=body), 409, "wrong-state")
    assert "is rejected: It is a teapot." in problem["detail"]


def test_what_nobody_could_use_is_refused_at_once(own_api: LiveApi, tmp_path: Path) -> None:
    models = own_api.settings.models_path
    (tmp_path / "outside").mkdir()
    write_base(tmp_path / "outside")
    models.mkdir()
    (models / "link").symlink_to(tmp_path / "outside")
    for name in ("old.ckpt", "weights.bin", "notes.txt"):
        (models / name).touch()
        problem = refuse(own_api.client.post("/models", json={"path": name}), 422, "model-rejected")
        assert name in problem["detail"] and "can run code" in problem["detail"]
    for path in ("../outside", str(tmp_path / "outside"), "link", ".", "", "none", "/etc", "a\x00b"):
        answer = own_api.client.post("/models", json={"path": path})
        assert answer.status_code == 422, (path, answer.text)
        assert "/path" in answer.json()["errors"]
    for number, missing in enumerate(("model_index.json", "scheduler", "unet", "vae/model.safetensors")):
        write_base(models / f"base{number}", without=missing)
        problem = refuse(own_api.client.post("/models", json={"path": f"base{number}"}), 422, "model-rejected")
        assert missing.split("/")[0] in problem["detail"]
    (write_base(models / "bad") / "atelier.json").write_text("{}")
    refuse(own_api.client.post("/models", json={"path": "bad"}), 422, "model-rejected")
    for body in (
        *(
            {},
            {"path": 5},
            {"file": "x.safetensors"},
            {"hub_id": "none"},
            {"hub_id": "../b"},
            {"path": "bad", "id": "A/b"},
        ),
        *(
            {"path": "bad", "hub_id": "a/b"},
            {"hub_id": "a/b", "resolution": 65},
            {"hub_id": "a/b", "prediction_type": "x"},
        ),
    ):
        refuse(own_api.client.post("/models", json=body), 422, "invalid-request")


def test_folders_are_taken_only_from_where_workers_look(own_api: LiveApi) -> None:
    models = own_api.settings.models_path
    for name in ("sub/deep", ".hidden", "plain"):
        write_base(models / name, f"id-of-{name.strip('.').replace('/', '-')}")
        write_base(models / f"{name}-bare", without="atelier.json")
    for path in ("sub/deep", "sub/deep-bare", ".hidden", ".hidden-bare", str(models / "sub" / "deep"), "plain/unet"):
        problem = refuse(own_api.client.post("/models", json={"path": path}), 422, "model-rejected")
        assert problem["errors"] == {"/path": ["must be directly in the models directory, and not begin with a dot"]}
        assert "move" in problem["detail"]
    (models / "link").symlink_to(models / "sub" / "deep")
    for path in ("plain", "./plain/", "sub/../plain", "plain-bare", "link"):
        assert own_api.client.post("/models", json={"path": path}).status_code == 201, path
    for model_id in ("id-of-plain", "id-of-sub-deep"):
        assert find_model_folder(own_api.settings, model_id)


def test_the_folder_of_a_registered_model_takes_no_other_id(own_api: LiveApi) -> None:
    models = own_api.settings.models_path
    write_base(models / "foo", "foo")
    assert own_api.client.post("/models", json={"path": "foo"}).json()["status"] == "ready"
    asked = {"path": "foo", "id": "bar"}
    problem = refuse(own_api.client.post("/models", json=asked), 422, "model-rejected")
    assert problem["errors"] == {"/id": ["must be foo"]} and "copy the folder" in problem["detail"]
    refuse(own_api.client.get("/models/bar"), 404, "not-found")
    shutil.copytree(models / "foo", models / "copy")
    assert own_api.client.post("/models", json={"path": "copy", "id": "bar"}).json()["status"] == "checking"
    assert own_api.client.post("/models", json={"path": "foo", "id": "foo"}).json()["status"] == "ready"
    own_api.client.post("/models", json={"hub_id": "some/base", "id": "foo"})
    refuse(own_api.client.post("/models", json=asked), 422, "model-rejected")
    assert own_api.client.get("/models/foo").json()["status"] == "checking"


def test_an_sdxl_needs_both_its_text_encoders(own_api: LiveApi) -> None:
    folder = write_base(own_api.settings.models_path / "xl", without="text_encoder_2")
    (folder / "model_index.json").write_text('{"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}')
    problem = refuse(own_api.client.post("/models", json={"path": "xl"}), 422, "model-rejected")
    assert "text_encoder_2/" in problem["detail"]
