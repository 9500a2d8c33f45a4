"""Every creating route with an Idempotency-Key: one thing for each key, body and path, however often it is sent."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from core.db import quotas
from core.db.tables import AuditEntry, IdempotencyRecord
from core.domain.limits import Limits
from tests.app.conftest import LiveApi
from tests.app.factory import MODEL, Worker, add_captioner, add_dataset, add_model, submit
from tests.app.test_adapter_checks import answer, claim_check
from tests.app.test_adapters import import_ready
from tests.app.test_generations import BODY as GENERATION
from tests.app.test_idempotency import make_body

RACERS = 6


@dataclass(frozen=True)
class Creation:
    """``prepare`` makes what is needed, and returns path and body; ``change`` makes another request of the body."""

    prepare: Callable[[LiveApi], tuple[str, dict[str, Any]]]
    change: dict[str, Any]
    needs_storage: bool = True


def _caption(api: LiveApi) -> tuple[str, dict[str, Any]]:
    return f"/datasets/{add_dataset(api)}/captions", {"captioner": add_captioner(api)}


def _revise(api: LiveApi) -> tuple[str, dict[str, Any]]:
    return f"/datasets/{add_dataset(api)}/revisions", {"prefix": "a photo of "}


def _merge(api: LiveApi) -> tuple[str, dict[str, Any]]:
    return "/adapters/merge", {"adapters": [{"id": import_ready(api), "weight": 1}]}


def _extract(api: LiveApi) -> tuple[str, dict[str, Any]]:
    tuned = MODEL.model_copy(update={"id": "tuned", "sha256": "9" * 64})
    return "/adapters/extract", {"model": add_model(api), "tuned": add_model(api, tuned), "rank": 8}


def _resize(api: LiveApi) -> tuple[str, dict[str, Any]]:
    return f"/adapters/{import_ready(api)}/resize", {"rank": 2}


def _check(api: LiveApi) -> tuple[str, dict[str, Any]]:
    return "/adapters/check?wait=0", {"adapters": [import_ready(api)]}


def _publish(api: LiveApi) -> tuple[str, dict[str, Any]]:
    return f"/adapters/{import_ready(api)}/publish", {"repo_id": f"studio/{uuid.uuid4().hex}", "token": "hf_of_a_test"}


def _link(api: LiveApi) -> tuple[str, dict[str, Any]]:
    return f"/adapters/{import_ready(api)}/links", {"expires_in": 3600}


def _sample(api: LiveApi) -> tuple[str, dict[str, Any]]:
    worker = Worker(api, submit(api)["id"])
    worker.train(2)
    return f"/jobs/{worker.job_id}/samples", {"prompts": ["a toy"]}


def _generate(api: LiveApi) -> tuple[str, dict[str, Any]]:
    add_model(api)
    return "/generations", dict(GENERATION)


def _train(api: LiveApi) -> tuple[str, dict[str, Any]]:
    return "/jobs", make_body(api)


CREATIONS = {
    "captions": Creation(_caption, {"prefix": "blip, "}),
    "revisions": Creation(_revise, {"prefix": "a drawing of "}, needs_storage=False),
    "merge": Creation(_merge, {"name": "another"}),
    "extract": Creation(_extract, {"rank": 4}),
    "resize": Creation(_resize, {"rank": 1}),
    "check": Creation(_check, {"model": MODEL.id}, needs_storage=False),
    "publish": Creation(_publish, {"private": False}, needs_storage=False),
    "links": Creation(_link, {"expires_in": 7200}, needs_storage=False),
    "samples": Creation(_sample, {"seed": 9}),
    "generations": Creation(_generate, {"seed": 9}),
    "jobs": Creation(_train, {"steps": 11}),
}
every = pytest.mark.parametrize("creation", CREATIONS.values(), ids=CREATIONS)
below_something = pytest.mark.parametrize(
    "creation", [CREATIONS[name] for name in ("captions", "revisions", "resize", "publish", "links", "samples")]
)


def post(api: LiveApi, path: str, body: dict[str, Any], key: str) -> httpx.Response:
    return api.client.post(path, json=body, headers={"Idempotency-Key": key})


def count_audited(api: LiveApi) -> int:
    """Each creation leaves one entry."""
    with api.sessions() as session:
        return session.scalars(sa.select(sa.func.count()).where(AuditEntry.tenant_id == api.tenant_id)).one()


def set_limits(api: LiveApi, limits: Limits) -> None:
    with api.sessions.begin() as session:
        quotas.set_limits(session, api.tenant_id, limits)


@every
def test_a_repeat_gets_the_original(api: LiveApi, creation: Creation) -> None:
    (path, body), key = creation.prepare(api), uuid.uuid4().hex
    first = post(api, path, body, key)
    assert first.status_code in {200, 201, 202}, first.text
    before = count_audited(api)
    again = post(api, path, dict(reversed(body.items())), key)
    assert again.status_code == first.status_code and again.json()["id"] == first.json()["id"]
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replayed"] == "true" and "idempotent-replayed" not in first.headers
    assert count_audited(api) == before, "nothing else was made"


@every
def test_another_body_is_refused(api: LiveApi, creation: Creation) -> None:
    (path, body), key = creation.prepare(api), uuid.uuid4().hex
    first, before = post(api, path, body, key).json(), count_audited(api)
    answer = post(api, path, {**body, **creation.change}, key)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-mismatch")
    assert first["id"] in answer.json()["detail"] and count_audited(api) == before


@below_something
def test_the_same_key_on_another_path_is_another_request(api: LiveApi, creation: Creation) -> None:
    (path, body), (elsewhere, _), key = creation.prepare(api), creation.prepare(api), uuid.uuid4().hex
    if "repo_id" in body:  # two publications to one repository wait for each other
        first = post(api, path, body, key)
        second = post(api, elsewhere, {**body, "repo_id": "studio/elsewhere"}, key)
    else:
        first, second = post(api, path, body, key), post(api, elsewhere, body, key)
    assert first.status_code == second.status_code and first.json()["id"] != second.json()["id"]
    assert "idempotent-replayed" not in second.headers


@every
def test_the_same_key_of_another_tenant_is_another_request(api: LiveApi, other: LiveApi, creation: Creation) -> None:
    key = uuid.uuid4().hex
    ours, theirs = (post(one, *creation.prepare(one), key) for one in (api, other))
    assert ours.status_code == theirs.status_code and ours.json()["id"] != theirs.json()["id"]


@pytest.mark.parametrize("creation", [one for one in CREATIONS.values() if one.needs_storage])
def test_a_refused_request_does_not_use_up_its_key(api: LiveApi, creation: Creation) -> None:
    (path, body), key = creation.prepare(api), uuid.uuid4().hex
    set_limits(api, Limits.unlimited().model_copy(update={"stored_bytes": 0}))
    assert post(api, path, body, key).status_code == 429
    set_limits(api, Limits.unlimited())
    answer = post(api, path, body, key)
    assert answer.status_code in {201, 202} and "idempotent-replayed" not in answer.headers


@every
def test_a_repeat_needs_no_place_in_a_quota(api: LiveApi, creation: Creation) -> None:
    (path, body), key = creation.prepare(api), uuid.uuid4().hex
    first = post(api, path, body, key)
    set_limits(api, Limits.unlimited().model_copy(update={"stored_bytes": 0, "queued_jobs": 0, "steps_per_day": 0}))
    assert post(api, path, body, key).json()["id"] == first.json()["id"]


@every
def test_racing_repeats_get_the_original(api: LiveApi, creation: Creation) -> None:
    (path, body), key = creation.prepare(api), uuid.uuid4().hex
    before, barrier = count_audited(api), Barrier(RACERS)

    def send(_: int) -> httpx.Response:
        with httpx.Client(base_url=api.url, headers=api.headers, timeout=60) as client:
            client.get("/healthz")  # connected before the start
            barrier.wait()
            return client.post(path, json=body, headers={"Idempotency-Key": key})

    with ThreadPoolExecutor(RACERS) as pool:
        answers = list(pool.map(send, range(RACERS)))
    assert {answer.status_code for answer in answers} <= {200, 201, 202}, [answer.text for answer in answers]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert count_audited(api) == before + 1


@pytest.mark.parametrize("name", ["captions", "revisions"])
def test_a_repeat_gets_the_original_when_its_dataset_is_gone(api: LiveApi, name: str) -> None:
    (path, body), key = CREATIONS[name].prepare(api), uuid.uuid4().hex
    first = post(api, path, body, key)
    if name == "captions":  # a captioning that waits keeps its dataset
        api.client.post(f"/captionings/{first.json()['id']}/cancel").raise_for_status()
        with api.sessions.begin() as session:
            session.execute(
                sa.text("UPDATE captioners SET status = 'rejected' WHERE id = :id"), {"id": body["captioner"]}
            )
    else:
        assert api.client.delete(path.removesuffix("/revisions")).status_code == 204
    again = post(api, path, body, key)
    assert again.json()["id"] == first.json()["id"] and again.headers["idempotent-replayed"] == "true", again.text


def test_a_repeat_does_not_show_a_links_address_again(api: LiveApi) -> None:
    """Its secret is not stored. Nor does it get another one: the first may be in use."""
    (path, body), key = _link(api), uuid.uuid4().hex
    first = post(api, path, body, key).json()
    again = post(api, path, body, key).json()
    assert again["url"] is None and again == {**first, "url": None}
    assert httpx.get(first["url"]).status_code == 200
    api.client.delete(first["urls"]["self"]).raise_for_status()
    anew = post(api, path, body, key).json()
    assert anew["id"] != first["id"] and httpx.get(anew["url"]).status_code == 200
    assert httpx.get(first["url"]).status_code == 404


def test_a_token_is_not_in_the_record_and_does_not_count(api: LiveApi) -> None:
    (path, body), key = _publish(api), uuid.uuid4().hex
    first = post(api, path, body, key)
    other = post(api, path, {**body, "token": "hf_of_another"}, key)
    assert other.json()["id"] == first.json()["id"]
    without = {name: value for name, value in body.items() if name != "token"}
    assert post(api, path, without, key).status_code == 422, "whose token it is counts"
    records = sa.select(IdempotencyRecord).where(IdempotencyRecord.tenant_id == api.tenant_id)
    with api.sessions() as session:
        [record] = session.scalars(records).all()
    assert record.route == f"POST {path}" and record.resource_id == first.json()["id"]
    broker_keys = [name.decode() for name in api.broker.scan_iter("atelier:share:pub_*")]
    assert sum(first.json()["id"] in name for name in broker_keys) == 1


def test_a_repeated_check_has_the_answer_that_came_meanwhile(api: LiveApi) -> None:
    (path, body), key = _check(api), uuid.uuid4().hex
    first = post(api, path, body, key)
    assert first.status_code == 202
    answer(api, claim_check(api, first.json()))
    again = post(api, path, body, key)
    assert again.status_code == 200 and again.json()["result"]["fits"]
