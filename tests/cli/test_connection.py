"""Which service and which key the commands take when nobody says so."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.connection import DEFAULT_URL, find_connection, find_moved_url
from cli.local.ports import probe_port
from cli.local.supervisor.service import launcher_command
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ScriptedJob


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "admin.key").write_text("atl_of_the_home\n")
    return tmp_path


def test_the_environment_wins(home: Path) -> None:
    environ = {"ATELIER_HOME": str(home), "ATELIER_URL": "https://gpu.example/atelier/", "ATELIER_API_KEY": "atl_mine"}
    connection = find_connection(environ)
    assert (connection.url, connection.api_key) == ("https://gpu.example/atelier", "atl_mine")


def test_on_the_same_machine_the_home_gives_address_and_key(home: Path) -> None:
    (home / "run" / "api.json").write_text(json.dumps({"url": "http://127.0.0.1:4321"}))
    connection = find_connection({"ATELIER_HOME": str(home)})
    assert (connection.url, connection.api_key) == ("http://127.0.0.1:4321", "atl_of_the_home")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"url": 7}'])
def test_the_default_address_is_used_if_the_home_has_none(home: Path, content: str) -> None:
    (home / "run" / "api.json").write_text(content)
    assert find_connection({"ATELIER_HOME": str(home)}).url == DEFAULT_URL


@pytest.mark.parametrize(
    "url", ["https://gpu.example", "http://10.0.0.1:8000", "http://localhost.evil.example", "x://["]
)
def test_the_homes_key_never_goes_to_another_machine(home: Path, url: str) -> None:
    assert find_connection({"ATELIER_HOME": str(home), "ATELIER_URL": url}).api_key is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9"])
def test_it_goes_to_this_one(home: Path, url: str) -> None:
    assert find_connection({"ATELIER_HOME": str(home), "ATELIER_URL": url}).api_key == "atl_of_the_home"


def test_the_key_is_not_shown_by_accident(home: Path) -> None:
    assert "atl_" not in repr(find_connection({"ATELIER_HOME": str(home)}))


def test_no_home_no_key(tmp_path: Path) -> None:
    assert find_connection({"ATELIER_HOME": str(tmp_path / "none")}).api_key is None


def test_a_restarted_service_is_found_by_its_home(home: Path) -> None:
    environ = {"ATELIER_HOME": str(home)}
    assert find_moved_url(environ) is None, "it does not run"
    (home / "run" / "api.json").write_text(json.dumps({"url": "http://127.0.0.1:4321"}))
    assert find_moved_url(environ) == "http://127.0.0.1:4321"
    assert find_moved_url({**environ, "ATELIER_URL": "http://127.0.0.1:1"}) is None


def test_the_homes_key_does_not_follow_to_another_machine(home: Path) -> None:
    (home / "run" / "api.json").write_text(json.dumps({"url": "http://10.0.0.1:8000"}))
    environ = {"ATELIER_HOME": str(home)}
    assert find_moved_url(environ) is None
    assert find_moved_url({**environ, "ATELIER_API_KEY": "atl_mine"}) == "http://10.0.0.1:8000"


def test_a_job_is_followed_to_the_new_port_of_a_restarted_service(own_api: RunningApi, home: Path) -> None:
    address, job = home / "run" / "api.json", ScriptedJob(own_api)
    (home / "admin.key").write_text(own_api.api_key)
    address.write_text(json.dumps({"url": own_api.url}))
    env = {key: value for key, value in os.environ.items() if not key.startswith("ATELIER_")}
    command = launcher_command((sys.executable, "-P", "-m", "cli.main", "watch", job.id), None, signal.SIGKILL)
    with subprocess.Popen(command, env={**env, "ATELIER_HOME": str(home)}, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout and "queued" in watch.stdout.readline()
        address.unlink()
        own_api.kill()
        own_api.port = probe_port("127.0.0.1", 0)
        own_api.start()
        job.run_to_the_end()
        address.write_text(json.dumps({"url": own_api.url}))
        output = watch.stdout.read()
    assert watch.returncode == 0, output
    assert f"Job {job.id} succeeded" in output
