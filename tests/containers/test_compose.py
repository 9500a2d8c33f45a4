"""docker-compose.yml: that it is valid, closed to the outside, and starts what `atelier up` starts."""

import json
import os
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from cli.local.home import open_home
from cli.local.tree import DRAIN_TIMEOUT_SECONDS, TreePlan, build_tree
from cli.main import app
from deploy.make_env import fill

ROOT = Path(__file__).parents[2]
ONE_SHOTS = {"storage-owner", "bucket", "migrate"}
OURS = {"storage-owner", "bucket", "migrate", "api", "cpu-worker", "steward", "trainer-gpu", "trainer-cpu"}


def test_it_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    vendored = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(vendored.read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(compose)
    broken = {**compose, "services": {"api": {"image": "x", "read_onyl": True}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validators.validator_for(schema)(schema).validate(broken)


def test_compose_itself_takes_it(tmp_path: Path) -> None:
    command = find_compose()
    (tmp_path / "env").write_text(fill((ROOT / ".env.example").read_text()))
    given = ["--file", str(ROOT / "docker-compose.yml"), "--env-file", str(tmp_path / "env")]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    run = subprocess.run(
        [*command, *given, "--profile", "gpu", "--profile", "cpu", "config", "--quiet"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def find_compose() -> list[str]:
    """Its `config` needs no engine. Skips the test where it is not installed."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    pytest.skip("there is no docker compose here")


def test_the_parts_of_the_service_are_there(services: dict[str, Any]) -> None:
    assert set(services) == OURS | {"postgres", "valkey", "storage"}
    assert services["postgres"]["image"].startswith("postgres:18.")
    assert services["valkey"]["image"].startswith("valkey/valkey:9.")
    profiles = {name: service["profiles"] for name, service in services.items() if "profiles" in service}
    assert profiles == {"trainer-gpu": ["gpu"], "trainer-cpu": ["cpu"]}


def test_images_are_pinned(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert re.search(r":v?\d+\.\d+", service["image"]), name


def test_containers_are_hardened(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"] <= 512, name
        assert not service.get("privileged"), name
        assert all(mount.startswith("/tmp:") or mount.startswith("/run/") for mount in service["tmpfs"]), name
        assert not any("docker.sock" in str(volume) for volume in service.get("volumes", [])), name


def test_nobody_is_root_but_the_one_who_gives_volumes_away(services: dict[str, Any]) -> None:
    for name, service in services.items():
        is_root = str(service["user"]).split(":")[0] in ("0", "root")
        assert is_root == (name == "storage-owner"), name
        assert service.get("cap_add", []) == (["CHOWN"] if is_root else []), name
    owner = services["storage-owner"]
    assert owner["network_mode"] == "none"
    assert owner["command"][0] == "chown"


def test_only_the_api_is_published_and_only_on_this_machine(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "api": ["${ATELIER_BIND:-127.0.0.1}:${ATELIER_PORT:-8000}:8000"]
    }
    assert compose["networks"]["data"] == {"internal": True}
    outside = {name for name, service in services.items() if "outside" in service.get("networks", [])}
    assert outside == {"api", "cpu-worker"}
    assert all("data" in service["networks"] for name, service in services.items() if name != "storage-owner")


def test_every_secret_must_be_given(compose: dict[str, Any]) -> None:
    """No value of ours stands in for one that was forgotten."""
    text = (ROOT / "docker-compose.yml").read_text()
    secrets = set(re.findall(r"^([A-Z0-9_]+)=$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    used = dict(re.findall(r"\$\{([A-Z0-9_]+)(.*?)\}", text))

    assert len(secrets) == 9
    assert {name for name, rest in used.items() if rest.startswith(":?")} == secrets
    documented = set(re.findall(r"^#?([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert set(used) == documented
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|KEY", variable):
                assert str(value).startswith("${"), (name, variable)


def test_services_start_in_order(services: dict[str, Any]) -> None:
    waits = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    ready = {
        "migrate": "service_completed_successfully",
        "bucket": "service_completed_successfully",
        "valkey": "service_healthy",
    }
    for name in OURS - ONE_SHOTS:
        assert waits[name] == ready, name
    assert waits["migrate"] == {"postgres": "service_healthy"}
    assert waits["bucket"] == {"storage": "service_healthy"}
    assert waits["storage"] == {"storage-owner": "service_completed_successfully"}


def test_what_stays_up_is_watched_and_comes_back(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["restart"] == ("no" if name in ONE_SHOTS else "unless-stopped"), name
        assert ("healthcheck" in service) == (name not in ONE_SHOTS), name


def test_roles_are_parted(services: dict[str, Any]) -> None:
    """The service's processes hold the password of one role that owns nothing. The API's sees one tenant."""
    for name in OURS - ONE_SHOTS:
        environment = services[name]["environment"]
        role = "atelier_api" if name == "api" else "atelier_app"
        assert environment["DATABASE_URL"].startswith(f"postgresql+psycopg://{role}:"), name
        assert not any("OWNER" in str(value) or "POSTGRES_PASSWORD" in str(value) for value in environment.values())
        assert "DATABASE_OWNER_URL" not in environment, name
    migration = services["migrate"]["environment"]
    assert migration["DATABASE_OWNER_URL"].startswith("postgresql+psycopg://atelier_owner:")
    assert migration["DATABASE_URL"].startswith("postgresql+psycopg://atelier_app@")
    assert migration["DATABASE_API_URL"].startswith("postgresql+psycopg://atelier_api@")
    assert {name for name in services if "ATELIER_API_KEY" in services[name].get("environment", {})} == {"api"}


def test_a_gpu_is_reserved_for_the_trainer_that_needs_one(services: dict[str, Any]) -> None:
    (device,) = services["trainer-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["${ATELIER_GPU:-0}"], "capabilities": ["gpu"]}
    assert "deploy" not in services["trainer-cpu"]


def test_a_trainer_has_time_to_save_its_work(services: dict[str, Any]) -> None:
    for name in ("trainer-gpu", "trainer-cpu"):
        assert services[name]["stop_grace_period"] == "2m"
    assert DRAIN_TIMEOUT_SECONDS < 120


def test_files_that_are_mounted_exist(services: dict[str, Any]) -> None:
    mounted = [str(volume) for service in services.values() for volume in service.get("volumes", [])]
    ours = [volume.split(":")[0] for volume in mounted if volume.startswith("./")]
    assert len(ours) == 4
    assert all((ROOT / path).is_file() for path in ours)


class Became(Exception):
    """What a command of `atelier` turned into, instead of turning into it."""

    def __init__(self, program: str, command: tuple[str, ...], environment: dict[str, str]) -> None:
        self.command, self.environment = tuple(command), environment


def become(arguments: list[str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Became:
    """Run `atelier …` up to the point where it becomes its process."""

    def execve(*given: Any) -> None:
        raise Became(*given)

    with monkeypatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(os, "execve", execve)
        result = CliRunner().invoke(app, arguments, env=environment, catch_exceptions=True)
    assert isinstance(result.exception, Became), result.output
    return result.exception


@pytest.mark.parametrize(
    ("service", "process"),
    [
        ("migrate", "migrate"),
        ("api", "api"),
        ("cpu-worker", "cpu"),
        ("steward", "steward"),
        ("trainer-gpu", "train-0"),
        ("trainer-cpu", "train-0"),
    ],
)
def test_containers_run_what_up_runs(
    services: dict[str, Any], service: str, process: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {name: str(value) for name, value in services[service]["environment"].items()}
    device = services[service]["command"][-1] if service.startswith("trainer") else "cpu"
    servers = {"DATABASE_URL": "postgresql://elsewhere/atelier", "REDIS_URL": "redis://elsewhere"}
    plan = TreePlan("0.0.0.0", 8000, "http://127.0.0.1:8000", (device,), "key")
    started = {each.name: each for stage in build_tree(open_home(tmp_path / "home"), plan, servers) for each in stage}

    program, *arguments = services[service]["command"]
    became = become(arguments, environment, monkeypatch)

    assert program == "atelier"
    assert became.command == started[process].command
    for name in ("ATELIER_DEVICE", "ATELIER_SLOT"):
        assert became.environment.get(name) == started[process].env.get(name)
