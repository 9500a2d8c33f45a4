"""No route answers without a key, and no key opens another tenant's things."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from app.main import create_app
from core.db.tables import ApiKey
from core.domain.keys import hash_api_key, make_api_key
from tests.app.conftest import LiveApi, make_settings
from tests.app.factory import Worker, add_dataset, submit
from tests.fixtures.document import read_document

OPEN = {"/healthz", "/readyz"}
DOCUMENT = read_document()
ROUTES = [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods if path not in OPEN]


def fill(path: str, **values: str) -> str:
    return re.sub(r"{(\w+)}", lambda match: values.get(match[1], "1"), path)


def test_every_route_needs_a_key(api: LiveApi) -> None:
    assert len(ROUTES) > 25
    with httpx.Client(base_url=api.url) as anonymous:
        for method, path in ROUTES:
            answer = anonymous.request(method, fill(path))
            assert answer.status_code == 401, (method, path)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.json()["type"] == "/problems/unauthenticated"


def test_every_route_says_in_the_document_that_it_needs_a_key() -> None:
    for method, path in ROUTES:
        assert DOCUMENT["paths"][path][method]["security"] == [{"api_key": []}], (method, path)


def test_unknown_paths_tell_nothing_without_a_key(api: LiveApi) -> None:
    for path in ("/nowhere", "/jobs/", "/UI", "/uix", "/healthz/", "//ui", "/metrics"):
        assert httpx.get(f"{api.url}{path}").status_code == 401, path


def test_open_paths(api: LiveApi) -> None:
    for path in ("/healthz", "/readyz", "/ui/login", "/openapi.json", "/docs"):
        assert httpx.get(f"{api.url}{path}").status_code == 200, path


def test_bad_keys_are_refused(api: LiveApi) -> None:
    stranger = make_api_key()
    typo = api.api_key[:-1] + ("a" if api.api_key[-1] != "a" else "b")
    for header in (
        b"",
        b"Bearer",
        b"Bearer atl_",
        b"Bearer " + b"x" * 5000,
        f"Bearer {stranger}".encode(),
        f"Bearer {typo}".encode(),
        f"Basic {api.api_key}".encode(),
        api.api_key.encode(),
        b"Bearer \xe4tl_\xff",
    ):
        answer = httpx.get(f"{api.url}/jobs", headers={"Authorization": header})
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated"), header


def test_the_key_is_asked_for_before_the_body_is_read(api: LiveApi) -> None:
    """A body that never comes does not hold the answer back."""
    with httpx.Client(base_url=api.url) as anonymous:
        headers = {"Content-Type": "application/json"}
        answer = anonymous.post("/jobs", content=b"{not json" * 100_000, headers=headers)
    assert answer.status_code == 401


def test_scheme_is_read_in_any_case(api: LiveApi) -> None:
    assert httpx.get(f"{api.url}/jobs", headers={"Authorization": f"bearer  {api.api_key}"}).status_code == 200


def test_revoked_keys_are_refused(api: LiveApi, other: LiveApi) -> None:
    assert api.client.get("/jobs").status_code == 200
    with api.sessions.begin() as session:
        mine = ApiKey.tenant_id == api.tenant_id
        session.execute(sa.update(ApiKey).where(mine).values(revoked_at=sa.func.now()))
    assert api.client.get("/jobs").status_code == 401
    assert other.client.get("/jobs").status_code == 200


def test_the_admin_key_is_kept_as_a_hash_and_added_once(start_api: Callable[..., LiveApi]) -> None:
    first = start_api()
    second = start_api(api_key=first.api_key)
    assert second.client.get("/jobs").status_code == 200
    with first.sessions() as session:
        rows = session.scalars(sa.select(ApiKey)).all()
    assert [(row.name, row.sha256, row.prefix) for row in rows] == [
        ("admin", hash_api_key(first.api_key), first.api_key[:8])
    ]


def test_a_new_admin_key_leaves_the_old_one_in_force(start_api: Callable[..., LiveApi]) -> None:
    first = start_api()
    second = start_api()
    assert second.client.get("/jobs").status_code == 200
    assert first.client.get("/jobs").status_code == 200


def test_only_the_operator_registers_models(api: LiveApi) -> None:
    answer = api.client.post("/models", json={"path": "x"})
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")


def test_another_tenants_things_are_as_good_as_missing(api: LiveApi, other: LiveApi) -> None:
    """Every route with an id: the same 404 for what is another's and for what is not there."""
    job = submit(api)
    worker = Worker(api, job["id"])
    worker.sample(0)
    worker.checkpoint(5)
    worker.succeed()
    dataset = job["dataset"]
    image = api.client.get(f"/datasets/{dataset}/images").json()["data"][0]["sha256"]
    bodies = {
        "create_dataset_uploads": {"json": {"files": [{"filename": "a.png", "size": 1, "sha256": "0" * 64}]}},
        "revise_dataset": {"json": {"prefix": "a photo of "}},
        "caption_dataset": {"json": {"captioner": "tags"}},
        "request_job_samples": {"json": {"prompts": ["a toy"]}},
        "promote_step": {"json": {"step": 5}},
    }
    with_ids = [(method, path) for method, path in ROUTES if "{job_id}" in path or "{dataset_id}" in path]
    assert len(with_ids) > 18
    for method, path in with_ids:
        operation = DOCUMENT["paths"][path][method]["operationId"]
        values = {"step": "0", "index": "0", "sha256": image, "filename": "a.png"}
        theirs = fill(path, job_id=job["id"], dataset_id=dataset, **values)
        missing = fill(path, job_id="job_none", dataset_id="ds_none", **values)
        answers = [other.client.request(method, address, **bodies.get(operation, {})) for address in (theirs, missing)]
        assert [answer.status_code for answer in answers] == [404, 404], (method, path, answers[0].text)
        details = [answer.json()["detail"] for answer in answers]
        assert details[0].replace(job["id"], "job_none").replace(dataset, "ds_none") == details[1]
    assert api.client.get(f"/jobs/{job['id']}").json()["status"] == "succeeded"


def test_another_tenants_dataset_cannot_be_trained_on(api: LiveApi, other: LiveApi) -> None:
    job = submit(api)
    answer = other.client.post("/jobs", json={"model": job["model"], "dataset": job["dataset"], "trigger": "x"})
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert "/dataset" in answer.json()["errors"]


def test_lists_hold_ones_own_things_alone(api: LiveApi, other: LiveApi) -> None:
    submit(api)
    own = add_dataset(other)
    assert other.client.get("/jobs").json()["data"] == []
    assert [row["id"] for row in other.client.get("/datasets").json()["data"]] == [own]


def test_an_admin_key_of_another_form_stops_the_start(database_url: str, redis_url: str, tmp_path: Path) -> None:
    app = create_app(make_settings(database_url, redis_url, tmp_path, api_key="hunter2"))

    async def start() -> None:
        async with app.router.lifespan_context(app):
            pass

    with pytest.raises(ValueError, match="ATELIER_API_KEY"):
        asyncio.run(start())
