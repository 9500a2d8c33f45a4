"""Commands against a real API."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import app
from tests.fixtures.client import client, trainer, validator
from tests.fixtures.imports import checker, files
from tests.fixtures.running_api import RunningApi, own_api, running_api, shared_api

__all__ = ["checker", "client", "files", "own_api", "running_api", "shared_api", "trainer", "validator"]

Atelier = Callable[..., Result]


@pytest.fixture
def atelier(running_api: RunningApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Atelier:
    """Runs a command in an empty folder against the API."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_URL", running_api.url)
    monkeypatch.setenv("ATELIER_API_KEY", running_api.api_key)
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
