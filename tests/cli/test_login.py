"""`atelier login`: a fresh link from the service that runs, opened where somebody sits before a screen."""

import json
import sys
import webbrowser

import pytest

from cli.login import has_browser
from tests.cli.conftest import Atelier
from tests.fixtures.running_api import RunningApi


def test_the_command_says_the_link_and_how_long_it_lasts(atelier: Atelier, running_api: RunningApi) -> None:
    said = atelier("login").stdout
    assert f"{running_api.url}/ui/login?token=" in said
    assert "works once, within 10 min" in said
    document = json.loads(atelier("login", "--json").stdout)
    assert (document["event"], document["opened"], document["expires_in_seconds"]) == ("login", False, 600)


def test_it_is_opened_where_there_is_a_browser(atelier: Atelier, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("cli.login.has_browser", lambda _: True)
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) is None)
    assert "was opened in your browser" in atelier("login").stdout
    assert len(opened) == 1
    assert "Open this link" in atelier("login", "--no-browser").stdout
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    assert "Open this link" in atelier("login").stdout, "it may turn out that there is none"
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("environ", "is_terminal", "expected"),
    [
        ({"DISPLAY": ":0"}, True, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True, True),
        ({"DISPLAY": ":0"}, False, False),
        ({"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "x"}, True, False),
        ({}, True, False),
    ],
)
def test_where_a_browser_is_looked_for(
    environ: dict[str, str], is_terminal: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    assert has_browser(environ) is expected
