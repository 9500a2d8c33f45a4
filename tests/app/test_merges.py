"""POST /adapters/merge and /adapters/{id}/resize: what is accepted, each refusal, and what becomes of the sources."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from core.db import adapter_claims, leases
from core.db.adapter_claims import MergeClaim
from core.db.tables import Adapter
from core.domain.adapter_import import Findings
from core.domain.adapter_merge import LayerError, MergeError
from tests.app.conftest import LiveApi, with_scopes
from tests.app.factory import MODEL, Worker, add_model, submit
from tests.app.test_adapters import CONTENT, check, import_ready, send, store
from tests.app.test_jobs import refuse

ERROR = MergeError(total=0.02, layers=(LayerError(layer="unet.a", error=0.3), LayerError(layer="unet.b", error=0.01)))


def merge(api: LiveApi, *adapters: tuple[str, float], **fields: Any) -> httpx.Response:
    body = {"adapters": [{"id": adapter_id, "weight": weight} for adapter_id, weight in adapters], **fields}
    return api.client.post("/adapters/merge", json=body)


def claim_merge(api: LiveApi, adapter_id: str) -> MergeClaim:
    with api.sessions.begin() as session:
        while (claim := adapter_claims.claim_import(session, lease_seconds=3600)) is not None:
            if claim.id == adapter_id:
                break
    assert isinstance(claim, MergeClaim)
    return claim


def make(api: LiveApi, claim: MergeClaim) -> None:
    """Does what the worker does once its program has answered."""
    found = Findings(type="lora", rank=8, trigger=claim.trigger, proofs={})
    with api.sessions.begin() as session:
        assert adapter_claims.commit_merge(session, claim, found, {"kohya": store(api, claim)}, ERROR)


def test_a_stack_becomes_an_adapter_that_needs_its_sources_no_more(api: LiveApi) -> None:
    first, second = import_ready(api), import_ready(api)
    answer = merge(api, (first, 1), (second, -0.6), name="Both", tags=["mix"])
    assert answer.status_code == 202, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/adapters/{made['id']}"
    assert (made["status"], made["source"], made["name"], made["tags"]) == ("checking", "merge", "Both", ["mix"])
    assert (made["model"], made["trigger"], made["job"], made["files"]) == (MODEL.id, "inkish", None, {})
    expected = [{"id": first, "name": "ink", "weight": 1.0}, {"id": second, "name": "ink", "weight": -0.6}]
    assert made["merge"] == {"method": "concat", "rank": None, "sources": expected, "error": None}

    refuse(api.client.delete(f"/adapters/{second}"), 409, "wrong-state")
    claim = claim_merge(api, made["id"])
    assert [api.storage.read(claim.files[one.id].key) for one in claim.merge.sources] == [CONTENT[::-1]] * 2
    make(api, claim)
    ready = api.client.get(f"/adapters/{made['id']}").json()
    assert (ready["status"], ready["type"], ready["rank"]) == ("ready", "lora", 8)
    assert ready["merge"]["error"] == ERROR.model_dump(mode="json")
    [listed] = [row for row in api.client.get("/adapters").json()["data"] if row["id"] == made["id"]]
    assert listed["merge"]["error"] == {"total": 0.02, "layers": None}

    for source in (first, second):
        assert api.client.delete(f"/adapters/{source}").status_code == 204
    assert api.client.get(ready["urls"]["download"]).content == CONTENT[::-1]
    assert api.client.get(f"/adapters/{made['id']}").json()["merge"]["sources"] == expected
    assert api.client.delete(f"/adapters/{made['id']}").status_code == 204
    assert api.list_stored(f"adapters/{made['id']}/") == []


def test_names_and_triggers_are_the_sources_by_default(api: LiveApi) -> None:
    first, second = import_ready(api), str(send(api, name="y" * 100, trigger="other").json()["id"])
    check(api, second)
    made = merge(api, (first, 1), (second, 1), method="svd", rank=2).json()
    assert made["name"].startswith("ink + yyy") and len(made["name"]) == 100
    assert (made["trigger"], made["merge"]["rank"]) == ("inkish, other", 2)
    long = str(send(api, trigger="z" * 95).json()["id"])
    check(api, long)
    assert merge(api, (first, 1), (long, 1), (second, 1)).json()["trigger"] == "inkish, other", "whole ones alone"


def test_a_licence_that_all_have_is_the_merges(api: LiveApi) -> None:
    first, second = import_ready(api, rank=8), import_ready(api, rank=8)
    api.client.patch(f"/adapters/{first}", json={"license": "openrail++"}).raise_for_status()
    assert merge(api, (first, 1)).json()["license"] == "openrail++"
    assert merge(api, (first, 1), (second, 1)).json()["license"] is None
    api.client.patch(f"/adapters/{second}", json={"license": "openrail++"}).raise_for_status()
    assert merge(api, (first, 1), (second, 1)).json()["license"] == "openrail++"
    resized = api.client.post(f"/adapters/{first}/resize", json={"rank": 4}).json()
    assert resized["license"] == "openrail++"


def test_a_jobs_adapter_stays_until_the_merge_is_made(api: LiveApi) -> None:
    job = submit(api)
    Worker(api, job["id"]).succeed()
    adapter_id = api.client.get(f"/jobs/{job['id']}").json()["result"]["adapter_id"]
    made = merge(api, (adapter_id, 1)).json()
    refuse(api.client.delete(f"/jobs/{job['id']}"), 409, "wrong-state")
    make(api, claim_merge(api, made["id"]))
    assert api.client.delete(f"/jobs/{job['id']}").status_code == 204
    assert api.client.get(f"/adapters/{made['id']}").json()["status"] == "ready"


def test_an_adapter_is_resized(api: LiveApi) -> None:
    source = import_ready(api, rank=16)
    answer = api.client.post(f"/adapters/{source}/resize", json={"rank": 4})
    assert answer.status_code == 202, answer.text
    made = answer.json()
    assert (made["name"], made["trigger"], made["source"]) == ("ink (rank 4)", "inkish", "merge")
    assert made["merge"]["sources"] == [{"id": source, "name": "ink", "weight": 1.0}]
    assert (made["merge"]["method"], made["merge"]["rank"]) == ("svd", 4)
    for body, pointer in (({"rank": 16}, "/rank"), ({"rank": 0}, "/rank"), ({}, "/rank"), ({"rank": "4"}, "/rank")):
        answer = api.client.post(f"/adapters/{source}/resize", json=body)
        assert pointer in refuse(answer, 422, "invalid-request")["errors"]
    refuse(api.client.post("/adapters/ad_none/resize", json={"rank": 1}), 404, "not-found")
    dora = import_ready(api, kind="dora")
    assert (
        "DoRA"
        in refuse(api.client.post(f"/adapters/{dora}/resize", json={"rank": 1}), 422, "invalid-request")["detail"]
    )


def test_what_cannot_be_merged_is_refused_with_the_field(api: LiveApi) -> None:
    good = import_ready(api)
    before = len(api.client.get("/adapters", params={"limit": 100}).json()["data"])
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"adapters": []}, "/adapters"),
        ({"adapters": [{"id": good}] * 9}, "/adapters"),
        ({"adapters": [{"id": good}, {"id": good}]}, "/adapters/1/id"),
        ({"adapters": [{"id": good, "weight": 0}]}, "/adapters/0/weight"),
        ({"adapters": [{"id": good, "weight": 11}]}, "/adapters/0/weight"),
        ({"adapters": [{"id": good, "weight": "1"}]}, "/adapters/0/weight"),
        ({"adapters": [{"id": good, "wieght": 1}]}, "/adapters/0/wieght"),
        ({"adapters": [{"id": good}], "method": "svd"}, "/rank"),
        ({"adapters": [{"id": good}], "rank": 4}, "/rank"),
        ({"adapters": [{"id": good}], "method": "svd", "rank": 257}, "/rank"),
        ({"adapters": [{"id": good}], "method": "sum"}, "/method"),
        ({"adapters": [{"id": good}], "name": ""}, "/name"),
    ]
    for body, field in wrong:
        errors = refuse(api.client.post("/adapters/merge", json=body), 422, "invalid-request")["errors"]
        assert field in errors, (body, errors)
    assert list(refuse(merge(api, (good, 1), ("ad_none", 1)), 404, "not-found")["errors"]) == ["/adapters/1/id"]
    checking = send(api).json()["id"]
    assert "/adapters/0/id" in refuse(merge(api, (checking, 1)), 409, "wrong-state")["errors"]
    assert len(api.client.get("/adapters", params={"limit": 100}).json()["data"]) == before + 1


def test_dora_and_other_bases_are_refused_at_once(api: LiveApi) -> None:
    good, dora = import_ready(api), import_ready(api, kind="dora")
    problem = refuse(merge(api, (good, 1), (dora, 1)), 422, "invalid-request")
    assert list(problem["errors"]) == ["/adapters/1/id"] and "DoRA" in problem["detail"]
    add_model(api, MODEL.model_copy(update={"id": "second", "sha256": "2" * 64}))
    other = str(send(api, model="second").json()["id"])
    check(api, other)
    problem = refuse(merge(api, (good, 1), (other, 1)), 422, "invalid-request")
    assert (
        list(problem["errors"]) == ["/adapters/1/id"]
        and "second" in problem["detail"]
        and "same base" in problem["detail"]
    )


def test_anothers_adapters_are_not_there(api: LiveApi, other: LiveApi) -> None:
    theirs, mine = import_ready(api), import_ready(other)
    for there, none in (
        (merge(other, (mine, 1), (theirs, 1)), merge(other, (mine, 1), ("ad_none", 1))),
        (other.client.post(f"/adapters/{theirs}/resize", json={"rank": 1}), None),
    ):
        problem = refuse(there, 404, "not-found")
        if none is not None:
            assert problem["detail"].replace(theirs, "ad_none") == refuse(none, 404, "not-found")["detail"]


def test_a_merge_needs_the_scope_for_jobs(api: LiveApi) -> None:
    good = import_ready(api)
    with with_scopes(api, "read") as reader:
        assert merge(reader, (good, 1)).status_code == 403


def test_a_waiting_merge_counts_as_storage(start_api: Callable[..., LiveApi]) -> None:
    api = start_api()
    good = import_ready(api)
    used = api.client.get("/usage").json()["stored_bytes"]["used"]
    made = merge(api, (good, 1)).json()
    assert api.client.get("/usage").json()["stored_bytes"]["used"] == used + len(CONTENT)
    make(api, claim_merge(api, made["id"]))
    assert api.client.get("/usage").json()["stored_bytes"]["used"] == used + len(CONTENT), "its file, and no more"


def test_limits_hold_for_merges(start_api: Callable[..., LiveApi]) -> None:
    api = start_api(quota_stored_bytes=3 * len(CONTENT), quota_rank=7)
    first, second = import_ready(api), import_ready(api)
    problem = refuse(merge(api, (first, 1), (second, 1)), 422, "invalid-request")
    assert list(problem["errors"]) == ["/method"] and "limit is 7" in problem["detail"]
    assert merge(api, (first, 1)).status_code == 202
    refuse(merge(api, (first, 1)), 429, "quota-exceeded")
    assert len(api.client.get("/adapters").json()["data"]) == 3
    small = start_api(max_adapter_bytes=len(CONTENT) + 1)
    ids = [import_ready(small), import_ready(small)]
    assert "/adapters" in refuse(merge(small, (ids[0], 1), (ids[1], 1)), 422, "invalid-request")["errors"]


def test_a_merge_that_is_postponed_or_refused_says_why(api: LiveApi) -> None:
    made = merge(api, (import_ready(api), 1)).json()
    claim = claim_merge(api, made["id"])
    with api.sessions.begin() as session:
        assert leases.release(session, Adapter, claim, "This worker has no base model toy.")
    assert "no base model" in api.client.get(f"/adapters/{made['id']}").json()["waiting_reason"]
    with api.sessions.begin() as session:
        session.get_one(Adapter, made["id"]).run_after = None
    claim = claim_merge(api, made["id"])
    with api.sessions.begin() as session:
        assert adapter_claims.reject_import(session, claim, "unet.a has NaN or infinite weights")
    rejected = api.client.get(f"/adapters/{made['id']}").json()
    assert (rejected["status"], rejected["error"]["detail"]) == ("rejected", "unet.a has NaN or infinite weights")


@pytest.mark.parametrize("weight", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(api: LiveApi, weight: str) -> None:
    body = f'{{"adapters": [{{"id": "ad_1", "weight": {weight}}}]}}'
    answer = api.client.post("/adapters/merge", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


def test_an_adapter_is_extracted_from_a_fine_tuned_base(api: LiveApi) -> None:
    base, tuned = MODEL, MODEL.model_copy(update={"id": "tuned", "sha256": "1" * 64})
    other = MODEL.model_copy(update={"id": "other", "sha256": "2" * 64, "num_parameters": 7})
    for info in (base, tuned, other):
        add_model(api, info)
    made = api.client.post("/adapters/extract", json={"model": base.id, "tuned": "tuned", "rank": 8, "trigger": "zap"})
    assert made.status_code == 202, made.text
    shown = made.json()
    assert (shown["status"], shown["model"], shown["name"], shown["trigger"]) == ("checking", base.id, "tuned", "zap")
    assert shown["merge"]["method"] == "extract" and shown["merge"]["rank"] == 8
    assert [source["id"] for source in shown["merge"]["sources"]] == ["tuned"]
    for asked, pointer in (
        ({"tuned": base.id}, "/tuned"),
        ({"tuned": "other"}, "/tuned"),
        ({"tuned": "nowhere"}, "/tuned"),
        ({"tuned": "tuned", "model": "nowhere"}, "/model"),
    ):
        refused = api.client.post("/adapters/extract", json={"model": base.id, **asked})
        assert refused.status_code in {404, 422} and pointer in refused.json()["errors"], refused.text
