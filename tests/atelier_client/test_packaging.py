"""The client as a distribution of its own."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients/python"
PROBE = "import atelier_client, json, sys; print(json.dumps(sorted(sys.modules)))"


def read_project(folder: Path) -> dict[str, Any]:
    return dict(tomllib.loads((folder / "pyproject.toml").read_text())["project"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(CLIENT, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_contains_the_package_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    modules = {str(path.relative_to(CLIENT)) for path in (CLIENT / "atelier_client").rglob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == {*modules, "atelier_client/py.typed"}
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_wheel_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """From the archive itself, which stands before the checkout on the path."""
    probe = "import atelier_client; print(atelier_client.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, env={"PYTHONPATH": str(wheel)}, capture_output=True, text=True
    )
    assert done.stdout.startswith(str(wheel)), done.stderr


def test_importing_the_client_loads_nothing_of_the_service() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=CLIENT, env={}, capture_output=True, text=True, check=True)
    modules = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "atelier_client" in modules
    service = {"app", "celery", "cli", "core", "fastapi", "redis", "sqlalchemy", "torch", "typer", "worker"}
    assert modules.isdisjoint(service)


def test_its_dependencies_are_the_services_own() -> None:
    """The lock files are made from the service's, and must cover the client."""
    client, service = (
        {Requirement(line).name: Requirement(line) for line in read_project(folder)["dependencies"]}
        for folder in (CLIENT, ROOT)
    )
    assert set(client) == {"httpx", "httpx-sse", "pydantic"}
    assert all(service[name] == requirement for name, requirement in client.items())


def test_its_licence_and_versions_are_the_services() -> None:
    assert (CLIENT / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    client, service = read_project(CLIENT), read_project(ROOT)
    for key in ("license", "requires-python", "version"):
        assert client[key] == service[key], key


def test_the_links_of_its_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (CLIENT / "README.md").read_text())
    assert links
    assert [link for link in links if not (CLIENT / link).exists()] == []
