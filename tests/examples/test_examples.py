"""Each example runs as it stands in examples/."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml
from PIL import Image
from standardwebhooks import Webhook

from atelier_client import AtelierClient
from cli.local.ports import probe_port
from tests.fixtures.receiver import SECRET
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ADAPTER
from tests.fixtures.servers import wait_for

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NODE = Path(sys.prefix) / "generators" / "node" / "node_modules" / ".bin"

played = pytest.mark.usefixtures("validator", "trainer", "drawer")


@pytest.fixture
def folder(running_api: RunningApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where an example is run, with what examples/README.md has its reader export."""
    monkeypatch.setenv("ATELIER_URL", running_api.url)
    monkeypatch.setenv("ATELIER_API_KEY", running_api.api_key)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), str(NODE), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def is_png(path: Path) -> bool:
    with Image.open(path) as image:
        return image.format == "PNG"


@played
def test_the_shell_script(folder: Path) -> None:
    said = run("bash", EXAMPLES / "train.sh", EXAMPLES / "blip", "blip")
    assert re.search(r"^dataset ds_\w+ is ready$", said, re.MULTILINE) and "event: job.succeeded" in said
    assert (folder / "blip.safetensors").read_bytes() == ADAPTER and is_png(folder / "blip.png")


@pytest.mark.usefixtures("validator")
def test_the_shell_script_stops_at_a_rejected_dataset(folder: Path) -> None:
    (folder / "broken").mkdir()
    (folder / "broken" / "1.png").write_bytes(b"not a picture")
    command = ["bash", str(EXAMPLES / "train.sh"), "broken", "blip"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0 and "is rejected" in done.stdout, done.stderr
    assert not (folder / "blip.safetensors").exists()


@played
def test_the_python_client(folder: Path) -> None:
    said = run(sys.executable, EXAMPLES / "train.py", EXAMPLES / "blip", "blip")
    assert "job.succeeded" in said
    assert (folder / "blip.safetensors").read_bytes() == ADAPTER
    assert is_png(folder / "blip-0.6.png") and is_png(folder / "blip-1.0.png")


@played
def test_the_asynchronous_client(folder: Path, running_api: RunningApi) -> None:
    said = run(sys.executable, EXAMPLES / "train_async.py", EXAMPLES / "blip", "blip")
    for rank in (4, 16):
        assert (folder / f"blip-rank-{rank}.safetensors").read_bytes() == ADAPTER
        assert re.search(rf"^rank {rank}: .*job.succeeded", said, re.MULTILINE)
    with AtelierClient(running_api.url, running_api.api_key) as client:
        newest = [next(jobs) for jobs in [client.list_jobs()] for _ in range(2)]
    assert len({job.id for job in newest}) == 2


@played
def test_the_notebook(folder: Path) -> None:
    notebook = json.loads((EXAMPLES / "train.ipynb").read_text())
    assert notebook["nbformat"] == 4
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells), "kept without output"
    (folder / "examples").symlink_to(EXAMPLES)
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"train.ipynb, cell {number}", "exec"), names)
    assert (folder / "blip.safetensors").read_bytes() == ADAPTER
    assert "<html" in (folder / "report.html").read_text() and is_png(folder / "grid.png")
    assert names["sheet"].width == sum(image.width for image in names["images"])


@contextmanager
def receiving(folder: Path) -> Iterator[tuple[str, Path]]:
    """The receiver's address, and the file that it writes to."""
    port, said = probe_port("127.0.0.1"), folder / "said"
    command = [sys.executable, str(EXAMPLES / "webhook_receiver.py"), str(port)]
    with said.open("w") as out:
        process = subprocess.Popen(command, stdout=out, env={**os.environ, "ATELIER_WEBHOOK_SECRET": SECRET})
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _listens(url), 60)
        yield url, said
    finally:
        process.kill()
        process.wait()


def _listens(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 501
    except httpx.TransportError:
        return False


def test_the_webhook_receiver_takes_what_is_signed_and_each_message_once(tmp_path: Path) -> None:
    body = json.dumps({"type": "job.succeeded", "data": {"job_id": "job_1"}})

    def post(url: str, secret: str, message_id: str, content: str = body) -> int:
        now = datetime.now(UTC)
        headers = {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(message_id, now, body),
        }
        return httpx.post(url, content=content, headers=headers).status_code

    with receiving(tmp_path) as (url, said):
        assert [post(url, SECRET, "evt_1"), post(url, SECRET, "evt_1"), post(url, SECRET, "evt_2")] == [204] * 3
        assert post(url, "whsec_" + "A" * 32, "evt_3") == 400
        assert post(url, SECRET, "evt_4", body.replace("job_1", "job_2")) == 400
        assert httpx.post(url, content=body).status_code == 400
        assert said.read_text() == "job.succeeded job_1\n" * 2


@pytest.fixture
def recipe() -> dict[Any, Any]:
    return dict(yaml.safe_load((EXAMPLES / "ci" / "train.yml").read_text()))


def test_the_recipe_is_a_workflow(recipe: dict[Any, Any]) -> None:
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "github-workflows.json"
    recipe["on"] = recipe.pop(True)  # YAML 1.1 reads `on` as true
    jsonschema.validate(recipe, json.loads(schema.read_text()))


@played
def test_the_recipes_scripts(folder: Path, recipe: dict[Any, Any], running_api: RunningApi) -> None:
    shutil.copytree(EXAMPLES / "blip", folder / "training")
    scripts = [step["run"] for step in recipe["jobs"]["train"]["steps"] if "run" in step]
    with AtelierClient(running_api.url, running_api.api_key) as client:
        known = {job.id for job in client.list_jobs()}
        said = run("bash", "-eo", "pipefail", "-c", scripts[0])
        assert "steps" in said and {job.id for job in client.list_jobs()} == known, "a dry run makes no job"
    for script in scripts[1:]:
        run("bash", "-eo", "pipefail", "-c", script)
    made = {path.suffix: path for path in (folder / "out").iterdir()}
    assert made[".safetensors"].read_bytes() == ADAPTER
    assert "<html" in made[".html"].read_text() and made[".csv"].read_text().startswith("step,")


@pytest.mark.skipif(not (NODE / "tsc").exists(), reason="run scripts/install_generators.sh .venv/generators")
@played
def test_the_typescript_client(folder: Path, running_api: RunningApi) -> None:
    for name in ("package.json", "train.ts"):
        shutil.copy(EXAMPLES / "typescript" / name, folder)
    package = json.loads((folder / "package.json").read_text())
    installed = (ROOT / "scripts" / "install_generators.sh").read_text()
    for name, version in package["devDependencies"].items():
        assert f"{name.upper().replace('-', '_')}={version}" in installed, "the versions that are tested"
    for script in ("generate", "build"):
        run("bash", "-c", package["scripts"][script])
    with AtelierClient(running_api.url, running_api.api_key) as client:
        dataset = client.wait_for_dataset(client.upload_dataset(EXAMPLES / "blip").id)
    said = run("node", "train.js", dataset.id, "blip")
    assert "succeeded" in said and f"an adapter of {len(ADAPTER)} bytes, complete" in said
    refused = subprocess.run(["node", "train.js", "ds_none", "blip"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0 and "There is no dataset" in refused.stderr
