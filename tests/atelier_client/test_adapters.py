"""Adapters by the client on a real API; the check of imports is played by the test."""

from pathlib import Path

import pytest
from sqlalchemy import update

from atelier_client import AdapterUnusable, ApiError, AtelierClient, WaitTimeout
from core.db import adapter_checks, adapter_claims, leases
from core.db.tables import Adapter, AdapterCheck
from tests.atelier_client.faults import RestartingService
from tests.fixtures.client import repeating
from tests.fixtures.imports import FOUND, store
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


@pytest.mark.usefixtures("checker")
def test_adapters_are_merged_resized_and_compared(client: AtelierClient, files: Path) -> None:
    first, second = (
        client.wait_for_adapter(client.import_adapter(files / "ink.safetensors", MODEL.id).id).id for _ in range(2)
    )
    sent = client.merge_adapters({first: 1.0, second: -0.5}, method="svd", rank=8, name="both", tags=("mix",))
    made = client.wait_for_adapter(sent.id, timeout_seconds=60)
    assert (made.name, made.tags, made.source, made.rank) == ("both", ("mix",), "merge", 8)
    assert made.merge is not None and made.merge.error is not None and made.merge.error.layers is not None
    assert [(one.id, one.weight) for one in made.merge.sources] == [(first, 1.0), (second, -0.5)]
    assert (made.merge.method, made.merge.error.total, made.merge.error.layers[0].layer) == ("svd", 0.025, "unet.a")
    smaller = client.wait_for_adapter(client.resize_adapter(first, 2, name="small").id, timeout_seconds=60)
    assert smaller.name == "small" and smaller.merge is not None and smaller.merge.rank == 2
    check = client.check_adapters([first, second], model=MODEL.id)
    assert check.result is not None and check.result.fits and check.model == MODEL.id
    assert [(pair.adapters, pair.cosine) for pair in check.result.pairs] == [((first, second), 1.0)]
    with pytest.raises(ApiError, match="There is no adapter"):
        client.check_adapters([first, "ad_none"])
    with pytest.raises(ApiError, match="rank"):
        client.merge_adapters({first: 1.0}, method="svd")
    for one in (first, second, made.id, smaller.id):
        client.delete_adapter(one)


def test_a_comparison_that_waits_or_fails_says_why(
    running_api: RunningApi, client: AtelierClient, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_scripted_model(running_api)
    monkeypatch.setattr("atelier_client.adapters.WAIT_SECONDS", 0)
    sent, heard = client.import_adapter(files / "ink.safetensors", MODEL.id), list[str]()
    with running_api.sessions() as session, session.begin():
        claim = adapter_claims.claim_import(session, lease_seconds=60)
        assert claim is not None and claim.id == sent.id
        adapter_claims.commit_import(session, claim, FOUND, {"kohya": store(running_api, claim)})
    with pytest.raises(WaitTimeout):
        client.check_adapters([sent.id], timeout_seconds=0)
    with running_api.sessions() as session, session.begin():
        abandoned = adapter_checks.claim_check(session, lease_seconds=60)
        assert abandoned is not None and adapter_checks.fail_check(session, abandoned, "nobody waits")

    def work() -> None:
        """Postpones what nobody has heard of, and fails the rest."""
        with running_api.sessions() as session, session.begin():
            session.execute(update(AdapterCheck).values(run_after=None))
            claimed = adapter_checks.claim_check(session, lease_seconds=60)
            if claimed is not None and heard:
                adapter_checks.fail_check(session, claimed, "it is broken")
            elif claimed is not None:
                leases.release(session, AdapterCheck, claimed, "The base is away.")

    with repeating(work), pytest.raises(AdapterUnusable, match="it is broken"):
        client.check_adapters([sent.id], timeout_seconds=60, on_waiting=heard.append)
    assert heard == ["The base is away."]
    client.delete_adapter(sent.id)
