"""Adapters by the client on a real API; the check of imports is played by the test."""

from pathlib import Path

import pytest

from atelier_client import AdapterUnusable, ApiError, AtelierClient, WaitTimeout
from core.db import adapter_claims, leases
from core.db.tables import Adapter
from tests.atelier_client.faults import RestartingService
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ADAPTER, MODEL, register_scripted_model


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


def test_a_wait_reports_why_the_check_is_postponed(running_api: RunningApi, client: AtelierClient, files: Path) -> None:
    register_scripted_model(running_api)
    sent, heard = client.import_adapter(files / "ink.safetensors", MODEL.id, name="ink"), list[str]()
    with running_api.sessions() as session, session.begin():
        claim = adapter_claims.claim_import(session, lease_seconds=60)
        assert claim is not None and claim.id == sent.id
        leases.release(session, Adapter, claim, "The service's storage is full.")
    with pytest.raises(WaitTimeout):
        client.wait_for_adapter(sent.id, timeout_seconds=0, on_waiting=heard.append)
    assert heard == ["The service's storage is full."]
    client.delete_adapter(sent.id)
