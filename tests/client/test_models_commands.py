"""`atelier models`: a base comes in from where it lies, prepared by a real worker, and goes again."""

import http.server
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cli.bases import Placed
from cli.connection import Connection, find_models_path
from cli.context import Context
from cli.models import register
from cli.reporting import choose_reporter
from client import ApiError, AtelierClient, ModelUnusable, WaitTimeout
from core.settings import Settings
from tests.client.conftest import Atelier, repeating
from tests.client.test_client import serving
from tests.fixtures.bases import make_random_pipeline
from tests.fixtures.running_api import RunningApi
from tests.fixtures.weights import pack_weights
from worker.models.service import prepare_next


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
    with repeating(lambda: prepare_next(settings)):
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


class Service(http.server.BaseHTTPRequestHandler):
    """Two models; `busy` is needed by a job."""

    def do_GET(self) -> None:
        models = [{"id": name, "object": "model", "status": "ready"} for name in ("busy", "unused")]
        self._answer(200, {"object": "list", "data": models, "has_more": False})

    def do_DELETE(self) -> None:
        if self.path == "/models/unused":
            self._answer(204, None)
        else:
            detail = "The model busy is used by job_1: delete its jobs first."
            self._answer(
                409, {"type": "/problems/wrong-state", "title": "Wrong state", "status": 409, "detail": detail}
            )

    def _answer(self, status: int, body: object) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_base_that_nobody_needs_is_removed(atelier: Atelier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serving(Service) as url:
        monkeypatch.setenv("ATELIER_URL", url)
        removed, refused = atelier("models", "rm", "unu"), atelier("models", "rm", "busy")
        monkeypatch.setenv("ATELIER_HOME", str(tmp_path))
        for name, content in {"run/api.json": json.dumps({"url": url}), "models/unused/atelier.json": "{}"}.items():
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).write_text(content)
        left = atelier("models", "rm", "unused").stdout
    assert (removed.exit_code, removed.stdout) == (0, "Model unused is removed.\n")
    assert refused.exit_code == 1
    assert "delete its jobs first" in refused.stderr
    assert f"still in {tmp_path / 'models' / 'unused'}" in left, "a start would find it again"


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
