import socket
from pathlib import Path

import psutil
import pytest
import redis

from cli.errors import StartError
from cli.local.embedded.binaries import find_valkey
from cli.local.embedded.server_dirs import ServerDirs, open_server_dirs, remove_server_dirs
from cli.local.embedded.valkey import HOST, ONE_TRY, open_valkey
from cli.local.home import Home
from tests.fixtures.servers import ValkeyHandle, start_and_wait


def test_it_wants_a_password_and_listens_on_loopback_alone(valkey: ValkeyHandle) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        assert client.ping()
    with pytest.raises(redis.AuthenticationError), redis.Redis(port=valkey.server.port, retry=ONE_TRY) as client:
        client.ping()
    listening = [c.laddr.ip for c in psutil.Process(valkey.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening == [HOST]


def test_the_password_is_not_on_the_command_line(valkey: ValkeyHandle) -> None:
    password = valkey.server.credentials.valkey_password
    assert password not in " ".join(psutil.Process(valkey.pid).cmdline())
    assert (valkey.server.data / "valkey.conf").stat().st_mode & 0o777 == 0o600


def test_it_drops_no_queue_and_writes_every_second(valkey: ValkeyHandle) -> None:
    with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        wanted = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec"}
        assert client.config_get(*wanted) == wanted


def test_it_comes_back_with_its_data_after_kill_9(valkey: ValkeyHandle) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.set("kept", 42)
        valkey.kill()
        valkey.start()
        assert client.get("kept") == b"42"


def test_it_keeps_its_port_unless_another_has_taken_it(home: Home, state_dir: Path) -> None:
    place = open_server_dirs(home)
    first = open_valkey(home, place)
    assert open_valkey(home, place).port == first.port
    with socket.socket() as taker:
        taker.bind((HOST, first.port))
        taker.listen()
        second = open_valkey(home, place)
        assert second.port != first.port
        start_and_wait(second).stop()
    assert open_valkey(home, place).port == second.port
    remove_server_dirs(place)


def test_without_any_program_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StartError, match="REDIS_URL"):
        find_valkey(ServerDirs(None, Path("/"), "none"))
