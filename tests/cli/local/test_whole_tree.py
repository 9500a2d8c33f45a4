"""`atelier up` itself: the real servers, API, workers and steward."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from cli.connection import Connection, find_connection
from cli.local.home import Home, load_credentials
from cli.local.supervisor.orphans import find_tree
from tests.fixtures.servers import wait_for
from tests.fixtures.service import ROOT, up

ROLES = {"warden", "postgres", "valkey", "api", "cpu", "train-0", "steward"}


@pytest.mark.slow
def test_it_comes_up_dies_whole_and_comes_back_with_its_data(state_dir: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with up(home.path, tmp_path) as first:
        assert httpx.get(f"{first.url}/readyz").status_code == 200
        assert httpx.get(first.login_link, follow_redirects=True).status_code == 200
        assert {file.stem for file in home.run.glob("*.pid")} == ROLES
        assert all(psutil.pid_exists(int(file.read_text())) for file in home.run.glob("*.pid"))
        key = home.admin_key_file.read_text().strip()
        assert find_connection({"ATELIER_HOME": str(home.path)}) == Connection(first.url, key)
        client = httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=30)
        dataset = client.post(f"{first.url}/datasets", json={"name": "kept"}).raise_for_status().json()

        refused = subprocess.run(first.process.args, cwd=ROOT, capture_output=True, text=True)
        assert refused.returncode == 2
        assert f"already up in {home.path}" in refused.stderr

        tree = [psutil.Process(pid) for pid in find_tree(home, home_id_of(home))]
        assert len(tree) > len(ROLES)
        first.process.kill()
        wait_for(lambda: not any(map(is_running, tree)))

    with up(home.path, tmp_path) as second:
        assert home.admin_key_file.read_text().strip() == key
        found = client.get(f"{second.url}/datasets/{dataset['id']}").raise_for_status().json()
        assert found["name"] == "kept"
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(120) == 0
        assert not list(home.run.glob("*.pid"))
        assert not home.address_file.exists()
        assert not find_tree(home, home_id_of(home))
        assert not list(state_dir.glob("atelier-*")), "its folder for sockets is gone too"
    client.close()


def home_id_of(home: Home) -> str:
    return load_credentials(home).home_id


def is_running(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.usefixtures("state_dir")
def test_a_migration_that_fails_is_shown_and_nothing_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli.main", "up", "--port", "0", "--home", str(tmp_path / "home")]
    url = f"postgresql+psycopg://nobody@/none?host={tmp_path}"
    env = {**os.environ, "DATABASE_URL": url, "DATABASE_OWNER_URL": url, "REDIS_URL": "redis://127.0.0.1:1/0"}
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert result.returncode == 1
    assert "migrate ended at its start (exit code 1)" in result.stderr
    assert "OperationalError" in result.stderr
    home = Home(tmp_path / "home")
    assert not find_tree(home, home_id_of(home))


START_AND_TELL = """
import sys
from pathlib import Path
from tests.fixtures.service import up
with up(Path(sys.argv[1]), Path(sys.argv[2])):
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.usefixtures("state_dir")
def test_a_killed_test_run_takes_its_service_along(tmp_path: Path) -> None:
    home, cwd = Home(tmp_path / "home"), tmp_path / "cwd"
    cwd.mkdir()
    command = [sys.executable, "-c", START_AND_TELL, str(home.path), str(cwd)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "up\n"
        supervisor = int((home.run / "up.lock").read_text())
        tree = [psutil.Process(pid) for pid in (supervisor, *find_tree(home, home_id_of(home)))]
        assert len(tree) > len(ROLES)
        run.kill()
    wait_for(lambda: not any(map(is_running, tree)), 120)
