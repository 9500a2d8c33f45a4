from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.doctor import Finding, examine
from cli.main import app
from tests.fixtures.servers import PostgresHandle, ValkeyHandle


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "ATELIER_STORAGE", "S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("cli.doctor._ASK_TORCH", "print('not asked: it takes seconds')")


def findings(home: Path) -> dict[str, Finding]:
    return {finding.part: finding for finding in examine(home)}


def test_a_machine_with_the_wheels_is_fine(tmp_path: Path) -> None:
    found = findings(tmp_path / "home")
    assert [part for part, finding in found.items() if not finding.is_fine] == []
    assert "postgres" in found["database"].detail
    assert "will be made" in found["home"].detail
    assert not (tmp_path / "home").exists()


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
    monkeypatch.setattr("cli.doctor._ASK_TORCH", "import torch_that_is_not_there")
    found = findings(tmp_path)
    assert {part for part, finding in found.items() if not finding.is_fine} == {
        "torch",
        "database",
        "broker",
        "storage",
    }
    assert "torch_that_is_not_there" in found["torch"].detail
    monkeypatch.setenv("COLUMNS", "200")
    told = CliRunner().invoke(app, ["doctor", "--home", str(tmp_path)])
    assert told.exit_code == 1
    assert "install `atelier[train]`" in told.output, "brackets are no markup"


def test_an_evicting_broker_is_a_problem(tmp_path: Path, valkey: ValkeyHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    import redis

    monkeypatch.setenv("REDIS_URL", valkey.url)
    with redis.Redis.from_url(valkey.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert "allkeys-lru" in findings(tmp_path)["broker"].detail
        client.config_set("maxmemory-policy", "noeviction")
