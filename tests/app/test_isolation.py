"""Two tenants, one of everything each: on every route of the document, another's thing is as good as none."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from app.auth.scopes import find_requirement
from app.middleware.gate import is_open
from core.db.workers import record_worker
from tests.app.conftest import LiveApi, with_scopes
from tests.app.factory import add_dataset
from tests.app.world import World, build
from tests.fixtures.document import read_document

DOCUMENT = read_document()
ROUTES = [
    (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods if not is_open(path)
]
WITH_IDS = [
    (method, path) for method, path in ROUTES if "{" in path and not path.startswith(("/models", "/captioners"))
]
RATES = {"ratelimit", "ratelimit-policy"}
BODIES: dict[tuple[str, str], dict[str, object]] = {
    ("POST", "/datasets/{dataset_id}/uploads"): {"files": [{"filename": "a.png", "size": 1, "sha256": "0" * 64}]},
    ("POST", "/datasets/{dataset_id}/revisions"): {"prefix": "a photo of "},
    ("POST", "/datasets/{dataset_id}/captions"): {"captioner": "tags"},
    ("PATCH", "/adapters/{adapter_id}"): {"name": "mine now"},
    ("POST", "/adapters/{adapter_id}/resize"): {"rank": 1},
    ("POST", "/jobs/{job_id}/promote"): {"step": 5},
    ("POST", "/jobs/{job_id}/samples"): {"prompts": ["a toy"]},
    ("POST", "/adapters/{adapter_id}/publish"): {"repo_id": "studio/theirs", "token": "hf_of_a_test"},
    ("POST", "/adapters/{adapter_id}/links"): {},
}


@dataclass(frozen=True)
class Two:
    """``theirs``: what the first tenant has; ``us``: the second one, with every scope."""

    them: LiveApi
    theirs: World
    us: LiveApi


@pytest.fixture
def two(api: LiveApi, admin: LiveApi, other: LiveApi) -> Iterator[Two]:
    with with_scopes(other, "admin") as us:
        yield Two(api, build(api, admin), us)


def missing(world_id: str) -> str:
    """An id of the same form and length that nobody has."""
    prefix, _, rest = world_id.partition("_")
    return f"{prefix}_{'0' * len(rest)}"


def fill(path: str, world: World, *, there: bool) -> str:
    dataset = world.open_dataset if path.endswith(("/finalize", "/uploads", "/files/{filename}")) else world.dataset
    ids = {
        "job_id": world.job,
        "dataset_id": dataset,
        "adapter_id": world.adapter,
        "generation_id": world.generation,
        "captioning_id": world.captioning,
        "check_id": world.check,
        "publication_id": world.publication,
        "link_id": world.link,
        "cover_id": world.cover,
        "delivery_id": world.delivery,
        "request_id": world.request,
        "key_id": world.key,
        "tenant_id": "ten_default",
    }
    values = {name: value if there else missing(value) for name, value in ids.items()}
    values |= {"step": "0", "index": "0", "prompt": "0", "sha256": world.image, "filename": "a.png"}
    return re.sub(r"{(\w+)(:path)?}", lambda match: values[match[1]], path)


def show(answer: httpx.Response, world: World) -> tuple[int, dict[str, str], str]:
    """What an observer can tell apart, with all ids replaced."""
    text = answer.text
    for known in (*world.ids, "ten_default"):
        text = text.replace(known, missing(known))
    headers = {name: value for name, value in answer.headers.items() if name not in {"date", *RATES}}
    return answer.status_code, headers, text


def test_the_ids_are_good_for_their_owner(two: Two) -> None:
    """Else the next test would compare nothing with nothing."""
    for method, path in WITH_IDS:
        if method == "GET" and find_requirement(method, path) != "operator":
            address = fill(path, two.theirs, there=True)
            answer = two.them.client.get(address)
            assert answer.status_code == 200, (address, answer.text)


def test_another_tenants_thing_is_answered_as_one_that_is_not_there(two: Two) -> None:
    assert len(WITH_IDS) > 28
    for method, path in WITH_IDS:
        answers = [
            two.us.client.request(method, fill(path, two.theirs, there=there), json=BODIES.get((method, path)))
            for there in (True, False)
        ]
        expected = 403 if find_requirement(method, path) == "operator" else 404
        assert [answer.status_code for answer in answers] == [expected] * 2, (method, path, answers[0].text)
        assert show(answers[0], two.theirs) == show(answers[1], two.theirs), (method, path)
    job = two.them.client.get(f"/jobs/{two.theirs.job}").json()
    assert job["status"] == "succeeded"
    assert two.them.client.get(f"/adapters/{two.theirs.adapter}").json()["name"] != "mine now"


def test_what_a_body_or_a_query_names_is_not_found_either(two: Two) -> None:
    theirs = two.theirs
    model, own = two.them.client.get(f"/jobs/{theirs.job}").json()["model"], add_dataset(two.us)

    def ask(there: bool) -> list[httpx.Response]:
        def name(known: str) -> str:
            return known if there else missing(known)

        post = two.us.client.post
        return [
            post("/jobs", json={"model": model, "dataset": name(theirs.dataset)}),
            post("/jobs", json={"model": model, "dataset": own, "datasets": [{"id": name(theirs.dataset)}]}),
            post("/jobs?dry_run=true", json={"model": model, "dataset": name(theirs.dataset)}),
            post("/jobs", json={"model": model, "dataset": own, "init_adapter": name(theirs.adapter)}),
            post(f"/datasets/{own}/revisions", json={"include": [{"dataset": name(theirs.dataset)}]}),
            post("/adapters/merge", json={"adapters": [{"id": name(theirs.adapter)}]}),
            post("/generations", json={"model": model, "prompts": ["a toy"], "adapters": [step_of(name(theirs.job))]}),
            post("/adapters/check", json={"adapters": [name(theirs.adapter)]}),
            two.us.client.get("/adapters", params={"like": name(theirs.adapter)}),
            post("/keys", json={"name": "k", "tenant": name("ten_default")}),
            two.us.client.get("/captionings", params={"dataset": name(theirs.dataset)}),
            two.us.client.get("/keys", params={"tenant": name("ten_default")}),
            two.us.client.get("/audit", params={"tenant": name("ten_default")}),
        ]

    def step_of(job_id: str) -> dict[str, object]:
        return {"job": job_id, "step": 5}

    for mine, none in zip(ask(there=True), ask(there=False), strict=True):
        assert mine.status_code in {403, 404, 422} or mine.json()["data"] == [], mine.text
        assert show(mine, theirs) == show(none, theirs)


def test_no_list_has_anything_of_another_tenant(two: Two) -> None:
    lists = [path for method, path in ROUTES if method == "GET" and "{" not in path]
    assert len(lists) > 6
    for path in lists:
        if find_requirement("GET", path) == "operator":
            continue
        for query in ({}, {"after": "zzz"}):
            text = two.us.client.get(path, params=query).text
            assert not [known for known in (*two.theirs.ids, two.them.tenant_id) if known in text], path


def test_a_page_after_anothers_thing_tells_nothing(two: Two) -> None:
    """Lists go by the order of ids; an id that is another's is a place in that order and no more."""
    for path, known in (
        ("/jobs", two.theirs.job),
        ("/datasets", two.theirs.dataset),
        ("/adapters", two.theirs.adapter),
    ):
        assert two.us.client.get(path, params={"after": known}).json()["data"] == []


def test_a_key_of_the_same_idempotency_key_is_another_tenants(two: Two) -> None:
    body = {"model": two.them.client.get(f"/jobs/{two.theirs.job}").json()["model"], "dataset": add_dataset(two.us)}
    answer = two.us.client.post("/jobs", json=body, headers={"Idempotency-Key": "one"})
    assert answer.status_code == 201
    assert answer.json()["id"] != two.theirs.job


def test_a_worker_is_seen_without_anothers_job(two: Two) -> None:
    with two.them.sessions.begin() as session:
        record_worker(
            session,
            worker_id="w",
            device="cpu",
            device_name="x",
            memory_bytes=None,
            job_id=two.theirs.job,
            warm_models=["toy"],
        )
    seen = [api.client.get("/workers").json()["data"][0]["job"] for api in (two.them, two.us)]
    assert seen == [two.theirs.job, None]
