"""Which service and which key the commands take when nobody says so."""

import json
from pathlib import Path

import pytest

from cli.connection import DEFAULT_URL, find_connection


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
