import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cli.errors import StartError, UsageError
from cli.local.home import Home, change_credentials, ensure_admin_key, load_credentials, lock_home, open_home
from core.domain.keys import check_api_key_format


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_admin_key_is_made_once_and_is_private(home: Home) -> None:
    key = ensure_admin_key(home)
    assert check_api_key_format(key)
    assert ensure_admin_key(home) == key
    assert mode(home.admin_key_file) == 0o600


def test_a_damaged_admin_key_is_not_used(home: Home) -> None:
    home.admin_key_file.write_text("atl_almost")
    with pytest.raises(StartError, match=r"admin\.key"):
        ensure_admin_key(home)


def test_passwords_are_kept_in_private_and_differ(home: Home) -> None:
    first = load_credentials(home)
    assert mode(home.credentials_file) == 0o600
    assert len({first.owner_password, first.app_password, first.valkey_password}) == 3
    changed = change_credentials(home, valkey_port=4711)
    assert load_credentials(home) == changed
    assert changed.owner_password == first.owner_password
    assert mode(home.credentials_file) == 0o600


def test_a_new_home_cannot_be_listed_by_others_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    fresh = open_home(tmp_path / "fresh")
    assert mode(fresh.path) & 0o066 == 0
    assert {mode(folder) for folder in fresh.path.iterdir()} == {0o700}
    old = tmp_path / "old"
    old.mkdir()
    old.chmod(0o750)
    open_home(old)
    assert mode(old) == 0o750


def test_a_home_in_the_way_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="--home"):
        open_home(tmp_path / "file" / "home")


def test_a_home_has_one_holder_and_is_free_after_its_death(home: Home) -> None:
    script = (
        "import sys, pathlib, cli.local.home as h\n"
        "with h.lock_home(h.Home(pathlib.Path(sys.argv[1]))): print('held', flush=True); sys.stdin.read()"
    )
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", script, str(home.path)]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=f"already up.*process {holder.pid}"), lock_home(home):
            pass
        holder.kill()
        holder.wait()
    with lock_home(home):
        assert (home.run / "up.lock").read_text() == str(os.getpid())
