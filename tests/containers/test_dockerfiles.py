"""The Dockerfiles: clean, pinned, without root; and the API's has no torch in it."""

import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.containers.conftest import Dockerfile, read_dockerfile

ROOT = Path(__file__).parents[2]
TENSORS = {"torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "torchvision"}


def test_hadolint_finds_nothing(dockerfile: Dockerfile) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    run = subprocess.run([hadolint, "--no-color", dockerfile.path], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, ""), run.stdout + run.stderr


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python\nRUN cd /tmp && sudo pip install x\n")
    run = subprocess.run([Path(sys.executable).with_name("hadolint"), bad], capture_output=True, text=True)
    assert run.returncode == 1
    assert "DL3006" in run.stdout


def test_both_stand_on_one_pinned_python(dockerfile: Dockerfile) -> None:
    bases = {arguments.split()[0] for arguments in dockerfile.all("FROM")}
    assert bases == {"python:3.11-slim-trixie"}
    assert len(dockerfile.all("FROM")) == 2


def test_the_process_is_nobody_special(dockerfile: Dockerfile) -> None:
    final = dockerfile.final_stage()
    assert final.all("USER") == ["10001:10001"]
    names = [each.name for each in final.instructions]
    assert "RUN" not in names[names.index("USER") :]
    assert any("useradd --uid 10001" in run for run in final.all("RUN"))


def test_no_build_tools_or_caches_are_shipped(dockerfile: Dockerfile) -> None:
    assert not any("pip install" in run for run in dockerfile.final_stage().all("RUN"))
    assert all("type=cache" in run for run in dockerfile.all("RUN") if "pip install" in run)


def test_the_images_are_labelled(dockerfile: Dockerfile) -> None:
    (labels,) = dockerfile.final_stage().all("LABEL")
    for name in ("title", "description", "version"):
        assert f"org.opencontainers.image.{name}=" in labels


def test_no_secret_is_built_in(dockerfile: Dockerfile) -> None:
    for arguments in dockerfile.all("ENV") + dockerfile.all("ARG"):
        assert not re.search(r"PASSWORD|SECRET|_KEY|DATABASE_URL|REDIS_URL", arguments)


def test_the_home_of_the_image_is_the_home_of_compose(dockerfile: Dockerfile, services: dict[str, Any]) -> None:
    environment = " ".join(dockerfile.final_stage().all("ENV"))
    assert "ATELIER_HOME=/var/lib/atelier" in environment
    for name in ("api", "cpu-worker", "steward", "trainer-gpu", "trainer-cpu"):
        assert any(re.search(r"(^|:)/var/lib/atelier$", volume) for volume in services[name]["volumes"]), name


@pytest.mark.parametrize(("file", "service"), [("Dockerfile.api", "api"), ("Dockerfile.gpu", "trainer-gpu")])
def test_the_image_alone_runs_what_compose_runs(file: str, service: str, services: dict[str, Any]) -> None:
    (command,) = read_dockerfile(ROOT / file).final_stage().all("CMD")
    assert json.loads(command) == services[service]["command"]


def test_all_that_is_copied_reaches_the_builder_and_no_more_does(dockerfile: Dockerfile) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    admitted = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {source for copy in dockerfile.all("COPY") if "--from" not in copy for source in copy.split()[:-1]}
    assert copied == admitted
    assert not any(fnmatch(secret, name) for secret in (".env", ".git", ".atelier") for name in admitted)


def test_every_package_of_ours_is_in_the_image(dockerfile: Dockerfile) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {pattern.partition(".")[0] for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    copied = {copy.split()[0] for copy in dockerfile.final_stage().all("COPY")}
    assert {*packages, "clients"} <= copied


def closure(name: str, extras: frozenset[str]) -> set[str]:
    """The distributions that installing this one brings, on this machine."""
    found: set[str] = set()
    waiting = [(name, extras)]
    seen = set()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        found.add(normalised(current[0]))
        try:
            needs = [Requirement(line) for line in requires(current[0]) or []]
        except PackageNotFoundError:
            continue
        waiting += [(need.name, frozenset(need.extras)) for need in needs if applies(need, current[1])]
    return found


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def applies(need: Requirement, extras: frozenset[str]) -> bool:
    return need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras | {""})


def test_what_the_apis_image_installs_brings_no_torch() -> None:
    brought = closure("atelier", frozenset())
    assert {"fastapi", "celery", "boto3", "sqlalchemy", "botocore"} <= brought
    assert not brought & TENSORS
    assert closure("atelier", frozenset({"train"})) >= TENSORS - {"torchvision"}


# Imports what the API's image runs, on a machine that has no more than that image installs.
RUN_FROM_THE_IMAGE = """
import json, sys

missing = set(json.loads(sys.stdin.read()))

class NotInTheImage:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(name + " is not in this image", name=name)

sys.meta_path.insert(0, NotInTheImage())
import app.main, cli.main, core.storage.bucket, worker.celery_app, worker.datasets, worker.steward, worker.tasks
# These only when they are first used:
import core.storage.s3, kombu.transport.redis, psycopg, uvicorn.protocols.http.httptools_impl
"""


def test_what_runs_from_the_apis_image_needs_no_more_than_it_installs() -> None:
    brought = closure("atelier", frozenset()) | closure("atelier-client", frozenset())
    missing = [
        module
        for module, owners in packages_distributions().items()
        if not any(normalised(owner) in brought for owner in owners)
    ]
    assert "torch" in missing
    run = subprocess.run(
        [sys.executable, "-c", RUN_FROM_THE_IMAGE],
        input=json.dumps(missing),
        cwd=ROOT,
        env={"DATABASE_URL": "postgresql://nowhere/atelier", "REDIS_URL": "redis://nowhere"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
