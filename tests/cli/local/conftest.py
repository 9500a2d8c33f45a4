"""Homes and servers for the tests of what runs on this machine."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.local.embedded.server_dirs import STATE_DIR_VARIABLE
from cli.local.home import Home, open_home
from tests.fixtures.servers import PostgresHandle, ValkeyHandle, start_postgres, start_valkey


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def state_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the servers keep sockets, and root's what their account must reach: pytest's folders are closed."""
    path = Path(tempfile.mkdtemp(prefix="atelier-state-"))
    path.chmod(0o711)
    monkeypatch.setenv(STATE_DIR_VARIABLE, str(path))
    monkeypatch.setenv("TMPDIR", str(path))  # for the sockets
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresHandle]:
    handle = start_postgres(tmp_path_factory.mktemp("postgres"))
    yield handle
    handle.stop()


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyHandle]:
    handle = start_valkey(tmp_path_factory.mktemp("valkey"))
    yield handle
    handle.stop()
