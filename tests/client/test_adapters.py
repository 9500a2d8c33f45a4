"""Adapters by the client and by `atelier adapters`, on a real API; the check of imports is played by the test."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import app
from client import AdapterUnusable, ApiError, AtelierClient, WaitTimeout
from core.db import adapter_claims
from core.domain.adapter_import import Findings, IgnoredKey
from core.domain.artifacts import Artifact, adapter_key
from tests.client.conftest import repeating
from tests.client.faults import RestartingService
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ADAPTER, MODEL, register_scripted_model
from tests.fixtures.weights import weights_of

BAD = b"LoHa"


@pytest.fixture
def checker(running_api: RunningApi) -> Iterator[None]:
    """Takes every import but those that end with ``BAD``."""
    register_scripted_model(running_api)

    def check_next() -> None:
        with running_api.sessions() as session, session.begin():
            claim = adapter_claims.claim_import(session, lease_seconds=60)
            if claim is None:
                return
            if running_api.storage.read(claim.upload.key).endswith(BAD):
                adapter_claims.reject_import(session, claim, "this is a LoHa file")
                return
            stored = running_api.storage.put(adapter_key(claim.adapter_id, claim.attempt, "a"), ADAPTER)
            file = Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)
            ignored = (IgnoredKey(key="bundle_emb.cat", reason="belongs to an embedding"),)
            found = Findings(type="lora", rank=4, trigger="ink", proofs={}, ignored=ignored, num_ignored=1)
            adapter_claims.commit_import(session, claim, found, {"kohya": file})

    with repeating(check_next):
        yield


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "ink.safetensors").write_bytes(weights_of(b"good" * 100))
    (tmp_path / "bad.safetensors").write_bytes(weights_of(BAD * 100))
    return tmp_path


@pytest.mark.usefixtures("checker")
def test_an_adapter_is_imported_found_changed_downloaded_and_deleted(client: AtelierClient, files: Path) -> None:
    sent = client.import_adapter(files / "ink.safetensors", MODEL.id, tags=("a", "b"))
    ready = client.wait_for_adapter(sent.id, timeout_seconds=60)
    assert (ready.name, ready.tags, ready.rank, ready.trigger) == ("ink", ("a", "b"), 4, "ink")
    assert (ready.num_ignored, [row.key for row in ready.ignored]) == (1, ["bundle_emb.cat"])
    assert [row.id for row in client.list_adapters(tag="b", model=MODEL.id)] == [ready.id]
    assert client.change_adapter(ready.id, {"name": "Ink"}).name == "Ink"
    client.download_adapter_file(ready.id, files / "out.safetensors")
    assert (files / "out.safetensors").read_bytes() == ADAPTER
    client.delete_adapter(ready.id)
    with pytest.raises(ApiError, match="There is no adapter"):
        client.get_adapter(ready.id)
    refused = client.import_adapter(files / "bad.safetensors", MODEL.id)
    with pytest.raises(AdapterUnusable, match="LoHa"):
        client.wait_for_adapter(refused.id, timeout_seconds=60)


@pytest.mark.usefixtures("checker")
def test_a_check_is_waited_for_while_the_service_starts_again(running_api: RunningApi, files: Path) -> None:
    service = RestartingService()
    with AtelierClient(running_api.url, running_api.api_key, transport=service) as client:
        sent = client.import_adapter(files / "ink.safetensors", MODEL.id)
        assert client.wait_for_adapter(sent.id, timeout_seconds=60).status == "ready"
        client.delete_adapter(sent.id)
    assert service.left == []


def test_who_waits_hears_what_holds_the_check_up(running_api: RunningApi, client: AtelierClient, files: Path) -> None:
    register_scripted_model(running_api)
    sent, heard = client.import_adapter(files / "ink.safetensors", MODEL.id, name="ink"), list[str]()
    with running_api.sessions() as session, session.begin():
        claim = adapter_claims.claim_import(session, lease_seconds=60)
        assert claim is not None and claim.adapter_id == sent.id
        adapter_claims.release_import(session, claim, "The service's storage is full.")
    with pytest.raises(WaitTimeout):
        client.wait_for_adapter(sent.id, timeout_seconds=0, on_waiting=heard.append)
    assert heard == ["The service's storage is full."]
    client.delete_adapter(sent.id)


@pytest.mark.usefixtures("checker")
def test_the_commands_do_the_same(running_api: RunningApi, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_URL", running_api.url)
    monkeypatch.setenv("ATELIER_API_KEY", running_api.api_key)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(files)

    def atelier(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["adapters", *arguments])

    done = atelier("import", "ink.safetensors", "--model", MODEL.id, "--tag", "a", "--json")
    assert done.exit_code == 0, done.output
    adapter_id = json.loads(done.stdout.splitlines()[-1])["id"]
    for listed in (atelier(), atelier("list", "--tag", "a"), atelier("show", adapter_id)):
        assert listed.exit_code == 0 and adapter_id in listed.stdout and "lora, rank 4" in listed.stdout
    assert json.loads(atelier("list", "--json").stdout.splitlines()[0])["id"] == adapter_id
    refused = atelier("import", "bad.safetensors", "--model", MODEL.id)
    assert (refused.exit_code, "LoHa" in refused.stderr) == (1, True)
    assert atelier("import", "none.safetensors", "--model", MODEL.id).exit_code == 2
    assert atelier("delete", adapter_id).exit_code == 0
    assert atelier("show", adapter_id).exit_code == 2
