import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import doctor
from cli.doctor import Finding, examine
from cli.main import app
from tests.fixtures.servers import PostgresHandle, ValkeyHandle


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "ATELIER_STORAGE", "S3_ENDPOINT_URL", "ATELIER_URL", "ATELIER_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ATELIER_API_KEY", "atl_x")
    monkeypatch.setattr("cli.connection.DEFAULT_URL", "http://127.0.0.1:1")
    answer_of_machine(monkeypatch, f"print({json.dumps(REPORT)!r})")  # measuring takes seconds


REPORT = {
    "torch_version": "2.13.0",
    "cpu_threads": 2,
    "devices": [
        {"device": "cpu", "name": "EPYC", "memory_bytes": 2**35, "precision": "bf16", "seconds_per_image": 0.0234567}
    ],
}


def answer_of_machine(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(doctor, "EXAMINE_MACHINE", (sys.executable, "-c", code))


def findings(home: Path) -> dict[str, Finding]:
    return {finding.part: finding for finding in examine(home)}


def test_a_machine_with_the_wheels_is_fine(tmp_path: Path) -> None:
    found = findings(tmp_path / "home")
    assert [part for part, finding in found.items() if not finding.is_fine] == []
    assert "postgres" in found["database"].detail
    assert "will be made" in found["home"].detail
    assert not (tmp_path / "home").exists()
    assert "not running in this home; start it" in found["service"].detail
    assert found["bases"].detail == "tiny (prepared; the service was not asked)"
    assert "torch 2.13.0 with 2 CPU threads" in found["devices"].detail
    assert "cpu: EPYC, 32 GiB, bf16, 0.0235 s an image and step" in found["devices"].detail


def test_what_takes_long_says_that_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.pulse.INTERVAL_SECONDS", 0.2)
    answer_of_machine(monkeypatch, f"import time; time.sleep(0.7); print({json.dumps(REPORT)!r})")
    lines = CliRunner().invoke(app, ["doctor", "--home", str(tmp_path)]).stdout.splitlines()
    signs = [
        line for line in lines if line.startswith("  Checking: devices (loading torch and measuring some steps), 0:0")
    ]
    assert signs and lines.index(signs[-1]) < len(lines) - 1
    assert lines[-1].startswith("devices   ok")


def test_a_service_that_should_be_up_and_is_not_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "api.json").write_text('{"url": "http://127.0.0.1:1"}')
    service = findings(tmp_path)["service"]
    assert not service.is_fine
    assert "nothing answers at http://127.0.0.1:1" in service.detail


def test_bases_that_lie_prepared_are_listed_without_a_service(tmp_path: Path) -> None:
    for name in ("mine", ".half-made"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "atelier.json").write_text("{}")
    assert findings(tmp_path)["bases"].detail.startswith("mine, tiny (prepared")


def test_servers_that_answer_are_fine(
    tmp_path: Path, postgres: PostgresHandle, valkey: ValkeyHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres.url_app)
    monkeypatch.setenv("REDIS_URL", valkey.url)
    found = findings(tmp_path)
    assert found["database"].detail.endswith("answers")
    assert found["broker"] == Finding("broker", True, "answers")


def test_what_does_not_answer_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql+psycopg://nobody@/none?host={tmp_path}")
    monkeypatch.setenv("REDIS_URL", f"unix://{tmp_path}/none.sock")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ATELIER_STORAGE", "s3://bucket-without-an-endpoint/x")
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    answer_of_machine(monkeypatch, "import torch_that_is_not_there")
    found = findings(tmp_path)
    assert {part for part, finding in found.items() if not finding.is_fine} == {
        "devices",
        "database",
        "broker",
        "storage",
    }
    assert "torch_that_is_not_there" in found["devices"].detail
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, ["doctor", "--home", str(tmp_path)])
    assert result.exit_code == 1
    assert "install `atelier[train]`" in result.output, "brackets are not markup"


def test_an_evicting_broker_is_a_problem(tmp_path: Path, valkey: ValkeyHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    import redis

    monkeypatch.setenv("REDIS_URL", valkey.url)
    with redis.Redis.from_url(valkey.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert "allkeys-lru" in findings(tmp_path)["broker"].detail
        client.config_set("maxmemory-policy", "noeviction")
