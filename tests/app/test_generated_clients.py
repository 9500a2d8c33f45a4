"""Typed clients that others' generators make of /openapi.json: whole, without a warning, and working.

scripts/install_generators.sh has the versions; without them these tests are skipped, and say so.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.conftest import LiveApi
from tests.app.factory import Worker, add_dataset, add_model, submit

GENERATORS = Path(sys.prefix) / "generators"
PYTHON = GENERATORS / "python" / "bin"
NODE = GENERATORS / "node" / "node_modules" / ".bin"
INSTALL = "run scripts/install_generators.sh .venv/generators"

needs_python = pytest.mark.skipif(not (PYTHON / "openapi-python-client").exists(), reason=INSTALL)
needs_node = pytest.mark.skipif(not (NODE / "openapi-typescript").exists(), reason=INSTALL)

USE_PYTHON = """
import json, sys
from generated_client import AuthenticatedClient
from generated_client.api.jobs import create_job, download_adapter, download_sample, get_job, list_jobs
from generated_client.api.models import list_models
from generated_client.models import AdapterSpec, DryRun, JobOut, JobRequest, LossSpec, OptimizerSpec, Plan, Problem

url, key, model, dataset, done = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=key, timeout=60)
wanted = JobRequest(
    model=model, dataset=dataset, trigger="toy", steps=10, adapter=AdapterSpec(rank=4), loss=LossSpec(type_="huber"),
    optimizer=OptimizerSpec(learning_rate=1e-4),
)
drawn_up = create_job.sync(client=client, body=wanted, dry_run=True)
assert isinstance(drawn_up, DryRun), drawn_up
assert isinstance(drawn_up.plan, Plan) and (drawn_up.plan.rank, drawn_up.plan.loss_type) == (4, "huber")
job = create_job.sync(client=client, body=wanted)
assert isinstance(job, JobOut), job
assert isinstance(job.plan, Plan) and job.plan.learning_rate == 1e-4
queued = get_job.sync(job.id, client=client)
assert queued.status == "queued" and queued.queue_position == 1 and queued.progress.eta_seconds > 0
refused = create_job.sync(client=client, body=JobRequest(model=model, dataset="ds_none"))
assert isinstance(refused, Problem) and refused.status == 404, refused
assert [row.id for row in list_jobs.sync(client=client).data] == [job.id, done]
assert model in [row.id for row in list_models.sync(client=client).data]
assert len(download_adapter.sync_detailed(done, client=client).content) > 1000
assert download_sample.sync_detailed(done, 3, 0, client=client).content.startswith(b"\\x89PNG")
print(json.dumps({"job": job.id}))
"""
IMPORT_ALL = """
import importlib, pkgutil
import generated_client

for module in pkgutil.walk_packages(generated_client.__path__, "generated_client."):
    importlib.import_module(module.name)
"""
USE_TYPESCRIPT = """
import type { components, operations, paths, webhooks } from "./schema";

type Wanted = components["schemas"]["JobRequest"];
const wanted: Wanted = { model: "tiny", dataset: "ds_1", adapter: { rank: 4 }, flip: null };
export const body: paths["/jobs"]["post"]["requestBody"]["content"]["application/json"] = wanted;
type Made = operations["create_job"]["responses"][201]["content"]["application/json"];
type DryRun = operations["create_job"]["responses"][200]["content"]["application/json"];
export const rank = (job: Made): number => job.plan.rank;
export const messages = (run: DryRun): string[] => run.warnings.map((warning) => warning.message);
export const place = (job: Made): number | null | undefined => job.queue_position;
type Message = webhooks["job.succeeded"]["post"]["requestBody"]["content"]["application/json"];
export const ended = (message: Message): string | undefined => message.data.job?.id;
// @ts-expect-error a rank is a number
export const wrong: Wanted = { model: "tiny", dataset: "ds_1", adapter: { rank: "4" } };
"""


@pytest.fixture(scope="module")
def document(shared_api: LiveApi, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the service serves it."""
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_text(httpx.get(f"{shared_api.url}/openapi.json", timeout=60).text)
    return path


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """What it said. Fails with that where the program did not end well."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def generate_python(document: Path, folder: Path) -> str:
    path = f"{PYTHON}{os.pathsep}{os.environ['PATH']}"  # it formats what it wrote, by its own ruff
    return run(
        PYTHON / "openapi-python-client", "generate", "--path", document, "--output-path", folder, "--meta", "none",
        "--fail-on-warning", PATH=path,
    )  # fmt: skip


@needs_python
def test_openapi_python_client_makes_all_of_it_and_it_works(api: LiveApi, document: Path, tmp_path: Path) -> None:
    said = generate_python(document, tmp_path / "generated_client")
    assert "warning" not in said.lower() and "unable" not in said.lower(), said
    described = json.loads(document.read_text())
    operations = {one["operationId"] for methods in described["paths"].values() for one in methods.values()}
    made = {path.stem for path in (tmp_path / "generated_client" / "api").rglob("*.py")} - {"__init__"}
    assert made == operations
    run(PYTHON / "python", "-c", IMPORT_ALL, cwd=tmp_path)

    job = submit(api)
    worker = Worker(api, job["id"])
    worker.sample(3)
    worker.succeed()
    (tmp_path / "use.py").write_text(USE_PYTHON)
    arguments = (api.url, api.api_key, add_model(api), add_dataset(api), job["id"])
    made_job = json.loads(run(PYTHON / "python", "use.py", *arguments, cwd=tmp_path))["job"]
    assert api.client.get(f"/jobs/{made_job}").json()["spec"]["loss"]["type"] == "huber"


@needs_node
def test_openapi_typescript_makes_all_of_it_and_it_compiles(document: Path, tmp_path: Path) -> None:
    said = run(NODE / "openapi-typescript", document, "-o", tmp_path / "schema.d.ts")
    assert "warn" not in said.lower() and "⚠" not in said, said
    (tmp_path / "use.ts").write_text(USE_TYPESCRIPT)
    run(NODE / "tsc", "--strict", "--noEmit", "--skipLibCheck", "false", "use.ts", cwd=tmp_path)


@needs_node
def test_every_operation_and_webhook_is_in_the_typescript(document: Path, tmp_path: Path) -> None:
    run(NODE / "openapi-typescript", document, "-o", tmp_path / "schema.d.ts")
    written, described = (tmp_path / "schema.d.ts").read_text(), json.loads(document.read_text())
    every: list[dict[str, Any]] = [*described["paths"].values(), *described["webhooks"].values()]
    for methods in every:
        for operation in methods.values():
            assert f'operations["{operation["operationId"]}"]' in written
