"""/adapters: what jobs leave and what is imported, each line of the contract, and each refusal."""

from collections.abc import Callable
from typing import Any

import httpx

from core.db import adapter_claims
from core.db.adapter_claims import ImportClaim
from core.domain.adapter_import import Findings, IgnoredKey
from core.domain.artifacts import Artifact, adapter_key
from core.domain.spec import AdapterType
from tests.app.conftest import LiveApi
from tests.app.factory import MODEL, Worker, add_dataset, add_model, submit
from tests.app.test_jobs import post, refuse
from tests.fixtures.weights import weights_of

CONTENT = weights_of(b"what stands for an adapter's weights" * 100)


def send(
    api: LiveApi, *, file: tuple[str, bytes] | None = ("ink.safetensors", CONTENT), **fields: str
) -> httpx.Response:
    add_model(api)
    files = {"file": file} if file else {"file": ("", b"")}
    return api.client.post("/adapters", data={"model": MODEL.id, **fields}, files=files)


def send_tags(api: LiveApi, tags: list[str]) -> httpx.Response:
    """Each in a field of its own; the fields beside a file come before it."""
    return api.client.post("/adapters", data={"tags": tags}, files={"file": ("ink.safetensors", CONTENT)})


def check(api: LiveApi, adapter_id: str, *, rank: int = 4, kind: AdapterType = "lora", refusal: str = "") -> None:
    """Does what the worker does once its program has answered."""
    with api.sessions.begin() as session:
        while (claim := adapter_claims.claim_import(session, lease_seconds=3600)) is not None:
            if claim.id == adapter_id:
                break
        assert claim is not None
        if refusal:
            assert adapter_claims.reject_import(session, claim, refusal)
            return
        found = Findings(type=kind, rank=rank, trigger="inkish", proofs={})
        assert adapter_claims.commit_import(session, claim, found, {"kohya": store(api, claim)})


def store(api: LiveApi, claim: ImportClaim) -> Artifact:
    stored = api.storage.put(adapter_key(claim.id, claim.attempt, "adapter.safetensors"), CONTENT[::-1])
    return Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)


def import_ready(api: LiveApi, **known: Any) -> str:
    adapter_id = str(send(api).json()["id"])
    check(api, adapter_id, **known)
    return adapter_id


def test_a_finished_jobs_adapter_is_found_and_downloaded(api: LiveApi) -> None:
    job = submit(api, name="my toy")
    contents = Worker(api, job["id"]).succeed()
    result = api.client.get(f"/jobs/{job['id']}").json()["result"]
    assert set(result["adapter"]) == {"kohya", "diffusers"}
    adapter = api.client.get(f"/adapters/{result['adapter_id']}").json()
    assert (adapter["status"], adapter["source"], adapter["job"]) == ("ready", "job", job["id"])
    assert (adapter["name"], adapter["trigger"], adapter["model"], adapter["family"]) == ("my toy", "toy", "toy", "sd1")
    assert (adapter["type"], adapter["rank"], adapter["metrics"]["loss"]) == ("lora", 16, 0.05)
    for name, content in contents.items():
        answer = api.client.get(adapter["files"][name]["url"])
        assert answer.content == content
    assert 'filename="my-toy.diffusers.safetensors"' in answer.headers["content-disposition"]
    refuse(api.client.delete(f"/adapters/{adapter['id']}"), 409, "wrong-state")
    assert api.client.delete(f"/jobs/{job['id']}").status_code == 204
    refuse(api.client.get(f"/adapters/{adapter['id']}"), 404, "not-found")


def test_an_import_is_checked_before_it_can_be_used(api: LiveApi) -> None:
    answer = send(api, name="Ink", tags="style, ink")
    assert answer.status_code == 202, answer.text
    adapter = answer.json()
    assert answer.headers["location"] == f"/adapters/{adapter['id']}"
    assert (adapter["status"], adapter["source"], adapter["name"]) == ("checking", "import", "Ink")
    assert (adapter["tags"], adapter["type"], adapter["files"]) == (["style", "ink"], None, {})
    assert api.list_stored(f"adapters/{adapter['id']}/") == [f"adapters/{adapter['id']}/upload"]
    refuse(api.client.get(f"/adapters/{adapter['id']}/download"), 409, "wrong-state")
    check(api, adapter["id"])
    ready = api.client.get(f"/adapters/{adapter['id']}").json()
    assert (ready["status"], ready["type"], ready["rank"], ready["trigger"]) == ("ready", "lora", 4, "inkish")
    assert api.client.get(ready["urls"]["download"]).content == CONTENT[::-1]
    refuse(api.client.get(f"/adapters/{adapter['id']}/download?format=diffusers"), 404, "not-found")
    assert api.client.delete(f"/adapters/{adapter['id']}").status_code == 204
    assert api.list_stored(f"adapters/{adapter['id']}/") == []


def test_an_import_says_what_of_its_file_was_not_taken_over(api: LiveApi) -> None:
    adapter_id = str(send(api).json()["id"])
    assert api.client.get(f"/adapters/{adapter_id}").json()["ignored"] == []
    ignored = IgnoredKey(key="bundle_emb.cat.string_to_param.*", reason="belongs to an embedding")
    found = Findings(type="lora", rank=4, trigger="", proofs={}, ignored=(ignored,), num_ignored=3)
    with api.sessions.begin() as session:
        claim = adapter_claims.claim_import(session, lease_seconds=3600)
        assert claim is not None and adapter_claims.commit_import(session, claim, found, {"kohya": store(api, claim)})
    adapter = api.client.get(f"/adapters/{adapter_id}").json()
    assert (adapter["ignored"], adapter["num_ignored"]) == ([ignored.model_dump()], 3)


def test_a_rejected_import_says_why(api: LiveApi) -> None:
    adapter_id = send(api).json()["id"]
    check(api, adapter_id, refusal="this is a LoHa file")
    rejected = api.client.get(f"/adapters/{adapter_id}").json()
    assert (rejected["status"], rejected["name"]) == ("rejected", "ink")
    assert rejected["error"]["type"] == "/problems/adapter-rejected"
    assert rejected["error"]["detail"] == "this is a LoHa file"


def test_what_is_no_import_is_refused_and_leaves_nothing(api: LiveApi) -> None:
    before = api.list_stored("adapters/")
    refuse(send(api, file=("ink.pt", CONTENT)), 415, "unsupported-weights")
    refuse(send(api, file=("ink.safetensors", b"no weights at all")), 415, "unsupported-weights")
    refuse(send(api, file=("ink.safetensors", CONTENT[:-1])), 422, "weights-rejected")
    refuse(send(api, file=("ink.safetensors", b"")), 422, "weights-rejected")
    assert "/file" in refuse(send(api, file=None), 422, "invalid-request")["errors"]
    assert "/model" in refuse(send(api, model="none"), 404, "not-found")["errors"]
    assert "/colour" in refuse(send(api, colour="red"), 422, "invalid-request")["errors"]
    assert "/colour" in refuse(send(api, file=None, colour="red"), 422, "invalid-request")["errors"], "as it arrives"
    assert "/tags" in refuse(send_tags(api, ["ab"] * 41), 422, "invalid-request")["errors"]
    assert "/name" in refuse(send(api, name="x" * 101), 422, "invalid-request")["errors"]
    refuse(api.client.post("/adapters", json={}), 415, "unsupported-media")
    assert api.list_stored("adapters/") == before


def test_a_file_over_the_limit_is_refused(start_api: Callable[..., LiveApi]) -> None:
    api = start_api(max_adapter_bytes=100)
    refuse(send(api), 413, "too-large")
    assert api.list_stored("adapters/") == []


def test_adapters_are_listed_found_and_changed(api: LiveApi) -> None:
    first, second = (send(api, name=name, tags=name).json()["id"] for name in ("one", "two"))
    changed = api.client.patch(f"/adapters/{first}", json={"description": "Of ink.", "tags": ["a", "b"]}).json()
    assert (changed["name"], changed["description"], changed["tags"]) == ("one", "Of ink.", ["a", "b"])
    assert api.client.get(f"/adapters/{first}").json() == changed

    def find(**wanted: Any) -> list[str]:
        return [row["id"] for row in api.client.get("/adapters", params=wanted).json()["data"]]

    assert find() == [second, first]
    assert (find(tag="two"), find(tag="one"), find(text="INK"), find(model="other")) == ([second], [], [first], [])
    page = api.client.get("/adapters", params={"limit": 1}).json()
    assert (page["has_more"], page["last_id"]) == (True, second)
    assert find(after=second) == [first]
    refuse(api.client.patch(f"/adapters/{first}", json={"trigger": "x"}), 422, "invalid-request")
    refuse(api.client.patch(f"/adapters/{first}", json={"tags": ["x"] * 21}), 422, "invalid-request")
    refuse(api.client.patch(f"/adapters/{first}", json={"description": "\x00"}), 422, "invalid-request")


def test_another_tenants_adapters_are_not_there(api: LiveApi, other: LiveApi) -> None:
    adapter_id = import_ready(api)
    assert other.client.get("/adapters").json()["data"] == []
    for method, path in [("GET", ""), ("GET", "/download"), ("DELETE", ""), ("PATCH", "")]:
        body = {"json": {}} if method == "PATCH" else {}
        refuse(other.client.request(method, f"/adapters/{adapter_id}{path}", **body), 404, "not-found")
    assert "/init_adapter" in refuse(post(other, init_adapter=adapter_id, trigger="x"), 422, "invalid-spec")["errors"]


def test_a_job_starts_from_an_adapter_as_it_is(api: LiveApi) -> None:
    adapter_id = import_ready(api, rank=32)
    answer = post(api, init_adapter=adapter_id, trigger="toy", steps=10)
    assert answer.status_code == 201, answer.text
    plan = answer.json()["plan"]
    assert (plan["init_adapter"]["id"], plan["rank"], plan["adapter_type"]) == (adapter_id, 32, "lora")
    body = {"model": MODEL.id, "dataset": answer.json()["dataset"], "init_adapter": adapter_id, "trigger": "toy"}
    dry = api.client.post("/jobs?dry_run=true", json=body).json()["plan"]
    assert not {"key", "images"} & {*plan, *plan["init_adapter"], *dry, *dry["init_adapter"]}, (
        "keys of storage stay here"
    )
    assert "adapter" not in answer.json()["spec"], "the spec stays as it was posted"
    refuse(api.client.delete(f"/adapters/{adapter_id}"), 409, "wrong-state")
    api.client.post(f"/jobs/{answer.json()['id']}/cancel")
    assert api.client.delete(f"/adapters/{adapter_id}").status_code == 204


def test_a_job_takes_over_what_the_adapter_of_another_was_trained_with(api: LiveApi) -> None:
    job = submit(api, adapter={"rank": 4, "targets": "attention_ff"}, text_encoder={"train": True, "rank": 8})
    Worker(api, job["id"]).succeed()
    adapter_id = api.client.get(f"/jobs/{job['id']}").json()["result"]["adapter_id"]
    answer = post(api, init_adapter=adapter_id, trigger="toy")
    assert answer.status_code == 201, answer.text
    plan = answer.json()["plan"]
    assert (plan["targets"], plan["text_encoder_rank"]) == ("attention_ff", 8)
    narrower: list[tuple[dict[str, Any], str]] = [
        ({"adapter": {"targets": "attention"}}, "/adapter/targets"),
        ({"text_encoder": {"train": False}}, "/text_encoder/train"),
        ({"text_encoder": {"train": True, "rank": 4}}, "/text_encoder/rank"),
    ]
    for body, field in narrower:
        errors = refuse(post(api, init_adapter=adapter_id, trigger="toy", **body), 422, "invalid-spec")["errors"]
        assert list(errors) == [field]
        assert adapter_id in errors[field][0]
    wider = {"adapter": {"targets": "all"}, "text_encoder": {"train": True, "rank": 16}}
    assert post(api, init_adapter=adapter_id, trigger="toy", **wider).status_code == 201


def test_what_a_job_cannot_start_from_is_refused_with_the_field(api: LiveApi) -> None:
    ready, checking = import_ready(api), send(api).json()["id"]
    xl = add_model(api, MODEL.model_copy(update={"id": "xl", "family": "sdxl"}))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"init_adapter": "ad_none"}, "/init_adapter"),
        ({"init_adapter": checking}, "/init_adapter"),
        ({"init_adapter": ready, "model": xl}, "/init_adapter"),
        ({"init_adapter": ready, "adapter": {"rank": 2}}, "/adapter/rank"),
        ({"init_adapter": import_ready(api, kind="dora"), "adapter": {"type": "lora"}}, "/adapter/type"),
        ({"init_adapter": import_ready(api, kind="locon"), "adapter": {"type": "lora"}}, "/adapter/type"),
    ]
    for body, field in wrong:
        full = {"model": MODEL.id, "dataset": add_dataset(api), "trigger": "toy", **body}
        assert field in refuse(api.client.post("/jobs", json=full), 422, "invalid-spec")["errors"]
