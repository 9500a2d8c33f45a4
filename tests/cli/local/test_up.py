import os
import re
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli.errors import UsageError
from cli.local import devices, programs
from cli.local.devices import choose_devices, slot_of
from cli.local.embedded.postgres import EmbeddedPostgres
from cli.local.home import Home
from cli.local.programs import ROOT
from cli.local.tree import TreePlan, build_tree
from cli.local.up import is_loopback, local_url, refuse_plain_http, suggest_training
from cli.main import app

PLAN = TreePlan("127.0.0.1", 8000, "http://127.0.0.1:8000", ("cpu", "cpu"), "atl_key")
EXTERNAL = {"DATABASE_URL": "postgresql://app@db/atelier", "REDIS_URL": "redis://broker/0", "PATH": "/bin"}


def run(*arguments: str, **env: str) -> tuple[int, str]:
    mask = os.umask(0o022)  # the command sets the process's, which here outlives it
    try:
        result = CliRunner().invoke(app, arguments, env=env)
    finally:
        os.umask(mask)
    return result.exit_code, result.output


def test_a_taken_port_is_a_usage_error_that_names_it(tmp_path: Path) -> None:
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", 0))
        taker.listen()
        port = str(taker.getsockname()[1])
        code, output = run("up", "--port", port, "--home", str(tmp_path / "home"))
    assert code == 2
    assert f"port {port}" in output
    assert "--port 0" in output
    assert not (tmp_path / "home").exists(), "a start that cannot be leaves nothing behind"


def test_workers_without_a_gpu_are_refused_before_a_home_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ATELIER_DEVICE", raising=False)
    monkeypatch.setattr(devices, "count_gpus", lambda: 1)
    code, output = run("up", "--train-workers", "2", "--home", str(tmp_path / "home"))
    assert (code, "--train-workers 2 on 1 GPU: a GPU takes one worker" in output) == (2, True)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("command", [["up"], ["api"]])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_plain_http_off_loopback_is_refused_with_the_reason(command: list[str], host: str) -> None:
    code, output = run(*command, "--host", host, ATELIER_ALLOW_HTTP="0")
    assert code == 2
    assert "unencrypted" in output
    assert "ATELIER_ALLOW_HTTP=1" in output


def test_plain_http_off_loopback_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError):
        refuse_plain_http("0.0.0.0")
    monkeypatch.setenv("ATELIER_ALLOW_HTTP", "1")
    refuse_plain_http("0.0.0.0")


def test_loopback_is_known_by_address() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "localhost.example.org"]))


def test_the_local_address_of_what_listens() -> None:
    assert local_url("127.0.0.1", 1) == "http://127.0.0.1:1"
    assert local_url("0.0.0.0", 1) == "http://127.0.0.1:1"
    assert local_url("::", 1) == local_url("::1", 1) == "http://[::1]:1"


def test_single_processes_say_which_settings_they_lack() -> None:
    for command in (["api"], ["worker", "cpu"], ["worker", "train"], ["steward"]):
        code, output = run(*command, DATABASE_URL="", REDIS_URL="")
        assert code == 2
        assert "DATABASE_URL and REDIS_URL" in output
    code, output = run("migrate", DATABASE_URL="", DATABASE_OWNER_URL="")
    assert code == 2
    assert "DATABASE_URL" in output


def test_servers_that_are_named_are_not_embedded(home: Home) -> None:
    stages = build_tree(home, PLAN, EXTERNAL)
    names = [[service.name for service in stage] for stage in stages]
    assert names == [["warden"], ["migrate"], ["api", "cpu", "train-0", "train-1", "steward"]]
    assert not home.credentials_file.exists()
    for service in stages[-1]:
        assert {key: service.env[key] for key in EXTERNAL} == EXTERNAL
        assert service.env["ATELIER_HOME"] == str(home.path)
        assert service.env["ATELIER_STORAGE"] == str(home.path / "storage")
        assert service.env["ATELIER_URL"] == PLAN.url


def test_embedded_servers_start_first_and_give_the_application_the_weaker_role(home: Home, state_dir: Path) -> None:
    stages = build_tree(home, PLAN, {"PATH": "/bin"})
    assert [stage[0].name for stage in stages] == ["warden", "postgres", "valkey", "migrate", "api"]
    (migrate,) = stages[3]
    postgres = stages[1][0].prepare.__self__  # type: ignore[attr-defined]
    assert isinstance(postgres, EmbeddedPostgres)
    assert migrate.env["DATABASE_OWNER_URL"] == postgres.owner_url
    assert migrate.env["DATABASE_API_URL"] == postgres.api_url
    for service in stages[-1]:
        assert service.env["DATABASE_URL"] == (postgres.api_url if service.name == "api" else postgres.app_url)
        assert service.env["REDIS_URL"].startswith("redis://:")
        assert postgres.credentials.owner_password not in str(service.env)


def test_only_the_processes_that_need_a_secret_get_it(home: Home) -> None:
    environ = {**EXTERNAL, "DATABASE_OWNER_URL": "postgresql://owner@db/atelier", "ATELIER_API_KEY": "somebody else's"}
    services = {service.name: service for stage in build_tree(home, PLAN, environ) for service in stage}
    holders = {name for name, service in services.items() if "DATABASE_OWNER_URL" in service.env}
    assert holders == {"migrate"}
    assert {name: service.env.get("ATELIER_API_KEY") for name, service in services.items() if name != "api"} == {
        name: None for name in services if name != "api"
    }
    assert services["api"].env["ATELIER_API_KEY"] == PLAN.api_key


def test_train_workers_get_a_slot_and_a_device_each(home: Home) -> None:
    plan = TreePlan("127.0.0.1", 8000, "http://127.0.0.1:8000", ("cuda:0", "cuda:1"), "atl_key")
    workers = [service for service in build_tree(home, plan, EXTERNAL)[-1] if service.name.startswith("train-")]
    assert [(w.env["ATELIER_SLOT"], w.env["ATELIER_DEVICE"]) for w in workers] == [("0", "cuda:0"), ("1", "cuda:1")]
    assert [w.command[w.command.index("-n") + 1] for w in workers] == ["train-0@%h", "train-1@%h"]


def test_devices_are_gpus_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "count_gpus", lambda: 0)
    assert choose_devices(2, {}) == ["cpu", "cpu"]
    monkeypatch.setattr(devices, "count_gpus", lambda: 2)
    assert choose_devices(2, {}) == ["cuda:0", "cuda:1"]
    assert choose_devices(1, {"ATELIER_DEVICE": "cpu"}) == ["cpu"]
    with pytest.raises(UsageError, match="2 GPUs:"):
        choose_devices(3, {})
    assert [slot_of(device) for device in ("cpu", "cuda:0", "cuda:3")] == [0, 0, 3]


def test_gpus_are_counted_by_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: x)'; echo '  MIG 1g Device 0'; echo 'GPU 1: B (UUID: y)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert devices.count_gpus() == 2
    program.write_text("#!/bin/sh\nexit 9\n")
    assert devices.count_gpus() == 0
    monkeypatch.setenv("PATH", "/nowhere")
    assert devices.count_gpus() == 0


def test_folders_named_from_here_are_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = programs.service_environment({"ATELIER_STORAGE": "data", "ATELIER_MODELS": "../bases"}, tmp_path / "home")
    assert env["ATELIER_STORAGE"] == str(tmp_path / "data")
    assert env["ATELIER_MODELS"] == str(tmp_path.parent / "bases")
    bucket = programs.service_environment({"ATELIER_STORAGE": "s3://bucket/prefix"}, tmp_path)
    assert bucket["ATELIER_STORAGE"] == "s3://bucket/prefix"
    assert "ATELIER_MODELS" not in bucket


def test_the_programs_are_found_from_any_folder() -> None:
    assert (programs.ROOT / "cli" / "main.py").is_file()
    assert programs.ALEMBIC_CONFIG.is_file()


@pytest.mark.parametrize(
    ("workers", "threads", "cores", "advice"),
    [
        (1, "", 4, None),
        (2, "", 4, None),
        (5, "", 4, 1),
        (2, "2", 4, None),
        (3, "2", 4, 1),
        (1, "8", 4, 4),
        (2, "x", 8, None),
    ],
)
def test_more_threads_than_cores_are_warned_of(
    workers: int, threads: str, cores: int, advice: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "count_cores", lambda: cores)
    warning = devices.warn_of_busy_cores(["cpu"] * workers, {"ATELIER_CPU_THREADS": threads})
    assert (warning is None) == (advice is None)
    assert warning is None or f"Set ATELIER_CPU_THREADS={advice}," in warning


@pytest.mark.parametrize(
    ("workers", "cores", "share"),
    [(["cpu"], 4, None), (["cpu"] * 2, 4, "2"), (["cpu"] * 3, 2, "1"), (["cuda:0"] * 2, 8, None)],
)
def test_cpu_workers_share_the_cores(
    workers: list[str], cores: int, share: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "count_cores", lambda: cores)
    assert devices.share_cores(workers).get("ATELIER_CPU_THREADS") == share


def test_gpus_take_no_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "count_cores", lambda: 1)
    assert devices.warn_of_busy_cores(["cuda:0", "cuda:1"], {}) is None


def test_the_version_is_printed() -> None:
    code, output = run("--version")
    assert code == 0
    assert output == f"atelier {version('atelier')}\n"


def test_help_names_arguments_and_options_in_one_way() -> None:
    """No ``{path}`` beside ``{JOB}``, and no ``<bool>`` for what takes no value."""
    group = typer.main.get_command(app)
    pages = {path: run(*path.split(), "--help", COLUMNS="100")[1] for path in list_commands(group)}
    assert len(pages) > 30
    for path, page in pages.items():
        assert not re.search(r"[{}]|<\w", page.replace("{rank: 16}", "")), path
        assert "Usage: atelier" in page


def list_commands(group: Any, prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, command in group.commands.items():
        path = f"{prefix}{name}"
        found += [path, *list_commands(command, f"{path} ")] if hasattr(command, "commands") else [path]
    return found


def test_the_suggested_training_works_as_it_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = ROOT / "examples" / "blip"
    monkeypatch.chdir(tmp_path)
    assert suggest_training(images).endswith(f"train {images} --trigger blip")
    monkeypatch.chdir(ROOT)
    assert suggest_training(images).endswith("train examples/blip --trigger blip")
    assert list(images.glob("*.png")) and not (tmp_path / "none").exists()
    assert suggest_training(tmp_path / "none").endswith("train FOLDER --trigger WORDS   (FOLDER: your images)")
