"""/generations: each line of the contract, and each refusal."""

import threading
from typing import Any

import httpx
import httpx_sse
import pytest

from core.db import generation_claims, models
from core.db.generations import MAX_QUEUED
from core.db.tables import Adapter, Generation
from core.domain.artifacts import Artifact
from core.domain.errors import WrongState
from core.domain.generation import name_sheet
from core.domain.states import TerminationReason
from core.queue import progress_channel
from tests.app.conftest import LiveApi
from tests.app.factory import MODEL, Worker, add_model, draw_png, submit
from tests.app.test_adapters import import_ready
from tests.app.world import claim_generation, draw_as_a_worker

BODY = {"model": MODEL.id, "prompts": ["a toy on red", "a toy on blue"]}


def create(api: LiveApi, **changes: Any) -> dict[str, Any]:
    add_model(api)
    answer = api.client.post("/generations", json={**BODY, **changes})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/generations/{made['id']}"
    return made


def refuse(api: LiveApi, status: int, pointer: str | None = None, **changes: Any) -> dict[str, Any]:
    add_model(api)
    answer = api.client.post("/generations", json={**BODY, **changes})
    assert answer.status_code == status, answer.text
    problem: dict[str, Any] = answer.json()
    assert pointer is None or pointer in problem["errors"], problem
    return problem


def get(api: LiveApi, generation_id: str, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = api.client.get(f"/generations/{generation_id}", params=params).raise_for_status().json()
    return found


def train_adapter(api: LiveApi) -> str:
    """With both of its files."""
    job = submit(api)
    Worker(api, job["id"]).succeed()
    adapter: dict[str, Any] = api.client.get("/adapters").json()["data"][0]
    assert adapter["job"] == job["id"]
    return str(adapter["id"])


def test_defaults_come_from_the_base(api: LiveApi) -> None:
    made = create(api)
    assert (made["status"], made["num_drawn"], made["num_total"]) == ("queued", 0, 2)
    assert (made["width"], made["height"], made["num_images"], made["seed"]) == (64, 64, 1, 0)
    assert made["num_steps"] == MODEL.defaults.sample_num_steps
    assert made["guidance_scale"] == MODEL.defaults.sample_guidance_scale
    assert api.client.get("/generations").json()["data"][0] == get(api, made["id"]) == made


def test_images_are_listed_as_they_are_drawn_and_downloaded(api: LiveApi) -> None:
    made = create(api, num_images=2, seed=5)
    claim_generation(api, made["id"])
    assert get(api, made["id"])["status"] == "running"
    with api.sessions.begin() as session:
        session.query(Generation).filter_by(id=made["id"]).update({"attempt": 0, "lease_until": None})
    draw_as_a_worker(api, made["id"], num_images=3)
    ended = get(api, made["id"])
    assert (ended["status"], ended["num_drawn"]) == ("succeeded", 3)
    assert [(image["index"], image["prompt"], image["seed"]) for image in ended["images"]] == [
        (0, "a toy on red", 5), (1, "a toy on red", 6), (2, "a toy on blue", 5),
    ]  # fmt: skip
    for image in ended["images"]:
        got = api.client.get(image["url"]).raise_for_status()
        assert got.headers["content-type"] == "image/png" and len(got.content) == image["size"]
        assert got.headers["etag"].strip('"') == image["sha256"]
    assert api.client.get(f"/generations/{made['id']}/images/3.png").status_code == 404


def test_a_stack_of_adapters_is_planned_with_their_files(api: LiveApi) -> None:
    adapter = train_adapter(api)
    made = create(api, adapters=[{"id": adapter, "weight": 0.5}, {"id": adapter}])
    assert [(each["id"], each["weight"]) for each in made["adapters"]] == [(adapter, 0.5), (adapter, 1.0)]


def test_adapters_that_cannot_be_used_are_refused_by_their_place(api: LiveApi) -> None:
    refuse(api, 404, "/adapters/0/id", adapters=[{"id": "ad_none"}])
    checking = api.client.post(
        "/adapters", data={"model": MODEL.id}, files={"file": ("a.safetensors", b"\x02\0\0\0\0\0\0\0{}")}
    )
    if checking.status_code == 202:
        refuse(api, 409, "/adapters/0/id", adapters=[{"id": checking.json()["id"]}])
    other = train_adapter(api)
    with api.sessions.begin() as session:
        session.query(Adapter).filter_by(id=other).update({"model_sha256": "f" * 64})
    assert "as it was then" in refuse(api, 422, "/adapters/0/id", adapters=[{"id": other}])["detail"]
    kohya_only = import_ready(api)
    refuse(api, 422, "/adapters/1/id", adapters=[{"id": train_adapter(api)}, {"id": kohya_only}])


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"width": 65}, "/width"),
        ({"height": 256}, "/height"),
        ({"prompts": ["x"] * 16, "num_images": 5}, "/num_images"),
        ({"prompts": []}, "/prompts"),
        ({"prompts": ["a\nb"]}, "/prompts/0"),
        ({"num_steps": 0}, "/num_steps"),
        ({"seed": -1}, "/seed"),
        ({"adapters": [{"id": "ad_x", "weight": 9}]}, "/adapters/0/weight"),
        ({"adapters": [{"id": "ad_x"}] * 6}, "/adapters"),
        ({"sampler": "euler"}, "/sampler"),
    ],
)
def test_what_cannot_be_drawn_is_refused(api: LiveApi, changes: dict[str, Any], pointer: str) -> None:
    refuse(api, 422, pointer, **changes)


def test_an_unknown_base_is_refused(api: LiveApi) -> None:
    refuse(api, 404, "/model", model="nothing")


def test_a_canceled_one_keeps_its_images_and_its_worker_loses_it(api: LiveApi) -> None:
    made = create(api)
    claim = claim_generation(api, made["id"])
    canceled = api.client.post(f"/generations/{made['id']}/cancel").raise_for_status().json()
    assert canceled["status"] == "canceled" and canceled["ended_at"] is not None
    with api.sessions.begin() as session:
        assert not generation_claims.succeed(session, claim)
    assert api.client.post(f"/generations/{made['id']}/cancel").status_code == 409


def test_a_failed_one_says_why(api: LiveApi) -> None:
    made = create(api)
    claim = claim_generation(api, made["id"])
    with api.sessions.begin() as session:
        assert generation_claims.fail(session, claim, TerminationReason.BAD_INPUT, "The adapter does not fit")
    failed = get(api, made["id"])
    assert failed["status"] == "failed" and failed["error"]["detail"] == "The adapter does not fit."


def test_a_wait_ends_with_the_next_image(api: LiveApi) -> None:
    made = create(api)
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(api.client.get(made["urls"]["self"], params={"wait": 30})))
    waiting.start()
    draw_as_a_worker(api, made["id"])
    api.app.state.services.progress.poll_seconds = 0.1
    waiting.join(40)
    assert answers[0].json()["status"] == "succeeded"


def test_deleting_removes_the_images(api: LiveApi) -> None:
    made = create(api)
    draw_as_a_worker(api, made["id"])
    used = api.client.get("/usage").json()["stored_bytes"]["used"]
    image = get(api, made["id"])["images"][0]
    assert used >= image["size"]
    assert api.client.delete(f"/generations/{made['id']}").status_code == 204
    assert api.client.get(image["url"]).status_code == 404
    assert api.client.get("/usage").json()["stored_bytes"]["used"] == used - image["size"]
    assert not list(api.storage.list(f"generations/{made['id']}/"))


def test_one_tenant_cannot_fill_the_queue(api: LiveApi) -> None:
    for _ in range(MAX_QUEUED):
        create(api)
    assert "20 generations are waiting" in refuse(api, 429)["detail"]


def test_lost_leases_are_taken_back(api: LiveApi) -> None:
    made = create(api)
    claim_generation(api, made["id"], lease_seconds=-1)
    assert get(api, made["id"])["status"] == "running"
    with api.sessions.begin() as session:
        assert made["id"] in [row.id for row in generation_claims.expire_generations(session)]
    assert get(api, made["id"])["status"] == "queued"


def test_the_tenant_that_drew_least_is_next(api: LiveApi, other: LiveApi) -> None:
    first, second = create(api), create(api)
    draw_as_a_worker(api, first["id"])
    theirs = create(other)
    order = []
    with api.sessions.begin() as session:
        while (claim := generation_claims.claim_generation(session, lease_seconds=3600)) is not None:
            order.append(claim.id)
    assert order.index(theirs["id"]) < order.index(second["id"])


def test_nul_is_refused_in_every_text(api: LiveApi) -> None:
    refuse(api, 422, "/negative_prompt", negative_prompt="a\0b")
    refuse(api, 422, "/adapters/0/id", adapters=[{"id": "ad_\0"}])


def test_a_base_with_generations_is_not_deleted(api: LiveApi) -> None:
    alone = add_model(api, MODEL.model_copy(update={"id": "alone"}))
    made = create(api, model=alone)
    with api.sessions.begin() as session, pytest.raises(WrongState, match=f"used by the generation {made['id']}"):
        models.delete_model(session, alone, keep_away=False)


def test_a_grid_has_a_sheet_for_each_prompt(api: LiveApi) -> None:
    adapter_id = train_adapter(api)
    grid = {"x": {"field": "weight", "values": [0.5, 1]}, "y": {"field": "seed", "values": [1, 2]}}
    made = create(api, adapters=[{"id": adapter_id}], grid=grid)
    assert (made["num_total"], made["sheets"]) == (8, [])
    assert made["grid"] == {"columns": ["weight 0.5", "weight 1"], "rows": ["seed 1", "seed 2"]}
    url = f"/generations/{made['id']}/sheets/0.png"
    assert api.client.get(url).status_code == 404
    claim = claim_generation(api, made["id"])
    stored = api.storage.put(f"generations/{made['id']}/a1/sheet.png", draw_png())
    with api.sessions.begin() as session:
        image = Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)
        generation_claims.add_image(session, claim, name_sheet(0), image)
    shown = get(api, made["id"])
    assert [sheet["url"] for sheet in shown["sheets"]] == [url]
    assert (shown["num_drawn"], shown["images"]) == (0, [])
    assert api.client.get(url).content == draw_png()


def test_an_adapter_of_a_grid_is_looked_up_as_the_others_are(api: LiveApi, other: LiveApi) -> None:
    mine, foreign = train_adapter(api), train_adapter(other)
    grid = {"x": {"field": "adapter", "values": [mine, foreign]}}
    refuse(api, 404, "/grid", adapters=[{"id": mine}], grid=grid)
    refuse(api, 422, "/grid/x/values", adapters=[{"id": mine}], grid={"x": {"field": "weight", "values": [9]}})


def test_a_repeat_with_its_key_is_the_first_generation(api: LiveApi) -> None:
    add_model(api)
    asked: dict[str, Any] = {"json": BODY, "headers": {"Idempotency-Key": "one"}}
    first, again = (api.client.post("/generations", **asked) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"] and again.headers["idempotent-replayed"] == "true"
    other = api.client.post("/generations", json={**BODY, "seed": 9}, headers=asked["headers"])
    assert other.status_code == 422 and other.json()["type"] == "/problems/idempotency-mismatch"
    api.client.delete(f"/generations/{first.json()['id']}").raise_for_status()
    anew = api.client.post("/generations", **asked)
    assert anew.json()["id"] != first.json()["id"] and "idempotent-replayed" not in anew.headers


def test_a_stream_has_each_image_and_the_end(api: LiveApi) -> None:
    made = create(api)
    url, accept = f"/generations/{made['id']}", {"Accept": "text/event-stream"}
    seen: list[tuple[str, int]] = []
    with httpx_sse.connect_sse(api.client, "GET", url, headers=accept) as stream:
        for message in stream.iter_sse():
            assert message.event == "generation"
            shown = message.json()
            seen.append((shown["status"], shown["num_drawn"]))
            if len(seen) == 1:
                draw_as_a_worker(api, made["id"], 2)
                api.broker.publish(progress_channel(made["id"]), b"")
    assert seen[0] == ("queued", 0) and seen[-1] == ("succeeded", 2)
    with httpx_sse.connect_sse(api.client, "GET", url, headers=accept) as stream:
        [last] = stream.iter_sse()
    assert last.json()["status"] == "succeeded"
    assert api.client.get(url, headers={**accept, "Last-Event-ID": last.id}).status_code == 204, "it is known already"
    assert api.client.get("/generations/gen_none", headers=accept).status_code == 404
