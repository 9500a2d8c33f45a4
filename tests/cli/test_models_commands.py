"""`atelier models`: a base comes in from where it lies, prepared by a real worker, and goes again."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from atelier_client import ApiError, AtelierClient, ModelUnusable, WaitTimeout
from cli.bases import Placed
from cli.connection import Connection, find_models_path
from cli.context import Context
from cli.models import register
from cli.reporting import choose_reporter
from core.settings import Settings
from tests.app.test_models import write_base
from tests.cli.conftest import Atelier
from tests.fixtures.bases import make_random_pipeline
from tests.fixtures.client import repeating
from tests.fixtures.running_api import RunningApi
from tests.fixtures.weights import pack_weights
from worker.bases import register_next

pytestmark = pytest.mark.usefixtures("warm_programs")


@pytest.fixture
def home(running_api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of a service that runs on this machine, as `atelier up` leaves word of it."""
    path = running_api.log.parent
    monkeypatch.setenv("ATELIER_HOME", str(path))
    (path / "run").mkdir(exist_ok=True)
    (path / "models").mkdir(exist_ok=True)
    (path / "run" / "api.json").write_text(json.dumps({"url": running_api.url, "models": str(path / "models")}))
    yield path
    shutil.rmtree(path / "models")
    (path / "run" / "api.json").unlink()


@pytest.fixture
def preparer(running_api: RunningApi, home: Path) -> Iterator[None]:
    env = running_api.env
    settings = Settings(DATABASE_URL=running_api.database_url, REDIS_URL=env["REDIS_URL"], ATELIER_HOME=home)
    with repeating(lambda: register_next(settings)):
        yield


@pytest.mark.usefixtures("preparer")
def test_a_folder_from_elsewhere_becomes_a_base(atelier: Atelier, home: Path, tmp_path: Path) -> None:
    make_random_pipeline(tmp_path / "words", "epsilon", "sd1").save_pretrained(tmp_path / "My Base")
    added = atelier("models", "add", tmp_path / "My Base", "--description", "random weights")
    assert added.exit_code == 0, added.output
    assert "Model my-base is ready: sd1, 64 pixels." in added.stdout
    assert "--model my-base" in added.stdout, "what to do with it"
    assert (home / "models/my-base/atelier.json").is_file()
    assert not (tmp_path / "My Base/atelier.json").exists(), "the original is not written to"
    shown = json.loads(atelier("models", "show", "my-b", "--json").stdout)
    assert (shown["id"], shown["status"], shown["description"]) == ("my-base", "ready", "random weights")
    assert atelier("models", "rm", "my-base").stdout == "Model my-base is removed.\n"
    assert list((home / "models").iterdir()) == []
    assert (tmp_path / "My Base/unet/diffusion_pytorch_model.safetensors").is_file(), "the original stays"


@pytest.mark.usefixtures("preparer")
def test_a_rejected_one_says_why_and_leaves_nothing_behind(
    atelier: Atelier, client: AtelierClient, home: Path, tmp_path: Path
) -> None:
    header = {"lora_unet_x.lora_down.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}
    (tmp_path / "ink.safetensors").write_bytes(pack_weights(header, bytes(4)))
    added = atelier("models", "add", tmp_path / "ink.safetensors", "--id", "ink")
    assert added.exit_code == 1
    assert "Model ink was rejected. ink.safetensors is a LoRA" in added.stderr
    assert list((home / "models").iterdir()) == []
    assert (tmp_path / "ink.safetensors").exists()
    shown = atelier("models", "show", "ink").stdout
    assert "rejected" in shown and "is a LoRA or an adapter like it" in shown
    (row,) = [line for line in atelier("models").stdout.splitlines() if line.startswith("ink ")]
    assert "is a LoRA or an adapter like it" in row
    with pytest.raises(ModelUnusable, match="is a LoRA") as caught:
        client.wait_for_model("ink")
    assert caught.value.model.status == "rejected"


def test_without_a_worker_the_wait_can_end(client: AtelierClient, home: Path) -> None:
    (home / "models" / "bare").mkdir()
    assert client.register_model({"path": "bare"}).status == "checking"
    waited: list[None] = []
    with pytest.raises(WaitTimeout, match="bare is still being prepared"):
        client.wait_for_model("bare", timeout_seconds=0, on_waiting=lambda: waited.append(None))
    assert waited


@pytest.mark.usefixtures("home")
def test_what_the_service_refuses_is_said_by_the_options(atelier: Atelier, tmp_path: Path) -> None:
    make = atelier("models", "add", "some/base", "--id", "No Such Id", "--resolution", 100)
    assert make.exit_code == 2
    assert "--id: " in make.stderr and "--resolution: " in make.stderr
    (tmp_path / "x.ckpt").write_text("x")
    assert "can run code" in atelier("models", "add", "x.ckpt").stderr
    assert "There is no model none" in atelier("models", "show", "none").stderr


def test_the_models_directory_is_known_of_the_running_service_alone(tmp_path: Path) -> None:
    environ = {"ATELIER_HOME": str(tmp_path)}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "api.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "models": "/srv/models"}))
    assert find_models_path(environ, "http://127.0.0.1:1") == Path("/srv/models")
    assert find_models_path(environ, "http://127.0.0.1:2") is None
    (tmp_path / "run" / "api.json").write_text(json.dumps({"url": "http://127.0.0.1:1"}))
    assert find_models_path(environ, "http://127.0.0.1:1") == tmp_path / "models", "as an older service says"


def test_a_folder_of_the_operators_own_stays_when_its_base_is_removed(atelier: Atelier, home: Path) -> None:
    write_base(home / "models" / "own", "own")
    assert atelier("models", "add", "own").exit_code == 0
    removed = atelier("models", "rm", "own")
    assert removed.exit_code == 0, removed.output
    assert f"Model own is removed. Its files are still in {home / 'models' / 'own'}" in removed.stdout
    assert "There is no model own" in atelier("models", "show", "own").stderr


def test_a_bundled_base_cannot_be_removed(atelier: Atelier) -> None:
    refused = atelier("models", "rm", "tiny")
    assert refused.exit_code == 1
    assert "comes with the service" in refused.stderr


@pytest.mark.parametrize(("status", "is_kept"), [(422, False), (403, False), (503, True)])
def test_what_was_brought_in_goes_if_it_is_refused_and_stays_if_the_service_falters(
    home: Path, tmp_path: Path, status: int, is_kept: bool
) -> None:
    made = home / "models" / "made"
    made.mkdir()
    problem = {"title": "No", "status": status, "detail": "No."}
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=problem))
    with AtelierClient("http://x", "atl_x", transport=transport) as refusing:
        context = Context(refusing, Connection("http://x", None), choose_reporter(True), True)
        with pytest.raises(ApiError):
            register(context, Placed({"path": "made"}, (made,)), home / "models")
    assert made.exists() == is_kept
