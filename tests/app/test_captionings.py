"""/captioners, /datasets/{id}/captions and /captionings: each line of the contract, and each refusal."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx_sse
import pytest

from core.db import captioners, captioning_claims
from core.db.captionings import MAX_QUEUED
from core.domain.captioner import CaptionerInfo
from core.domain.states import TerminationReason
from core.queue import progress_channel
from tests.app.conftest import LiveApi
from tests.app.factory import add_captioner, add_dataset
from tests.app.world import caption_as_a_worker, claim_captioning


def request(api: LiveApi, dataset_id: str, captioner: str = "tags", **how: Any) -> httpx.Response:
    return api.client.post(f"/datasets/{dataset_id}/captions", json={"captioner": captioner, **how})


def create(api: LiveApi, dataset_id: str | None = None, **how: Any) -> dict[str, Any]:
    add_captioner(api)
    answer = request(api, dataset_id or add_dataset(api), **how)
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/captionings/{made['id']}"
    return made


def get(api: LiveApi, captioning_id: str, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = api.client.get(f"/captionings/{captioning_id}", params=params).raise_for_status().json()
    return found


# --- captionings ----------------------------------------------------------------------------------------------


def test_it_ends_in_a_revision_that_can_be_read_and_edited(api: LiveApi) -> None:
    dataset_id = add_dataset(api, captions=False)
    made = create(api, dataset_id, prefix="toy, ", name="captioned")
    assert (made["status"], made["num_images"], made["num_done"], made["revision"]) == ("queued", 3, 0, None)
    assert (made["threshold"], made["dataset"], made["captioner"]) == (0.35, dataset_id, "tags")
    caption_as_a_worker(api, made["id"])
    ended = get(api, made["id"])
    assert (ended["status"], ended["num_done"]) == ("succeeded", 3)
    revision = api.client.get(ended["urls"]["revision"]).raise_for_status().json()
    assert (revision["parent"], revision["name"], revision["status"]) == (dataset_id, "captioned", "ready")
    images = api.client.get(revision["urls"]["images"]).raise_for_status().json()["data"]
    assert [image["caption"] for image in images] == ["toy, red, round"] * 3
    edited = api.client.post(revision["urls"]["revisions"], json={"find_replace": [{"find": "red", "replace": "blue"}]})
    assert edited.status_code == 201, edited.text
    assert not [image for image in api.client.get(f"/datasets/{dataset_id}/images").json()["data"] if image["caption"]]


def stream(api: LiveApi, captioning_id: str, after: str | None = None) -> Iterator[httpx_sse.ServerSentEvent]:
    headers = {} if after is None else {"Last-Event-ID": after}
    with httpx_sse.connect_sse(api.client, "GET", f"/captionings/{captioning_id}/events", headers=headers) as source:
        assert source.response.status_code == 200
        yield from source.iter_sse()


def test_a_stream_has_each_state_and_the_end(api: LiveApi) -> None:
    made = create(api, add_dataset(api, captions=False))
    seen = []
    for message in stream(api, made["id"]):
        assert message.event == "captioning" and message.json()["id"] == made["id"]
        seen.append((message.json()["status"], message.json()["num_done"], message.id))
        if len(seen) == 1:
            claim = claim_captioning(api, made["id"])
            with api.sessions.begin() as session:
                captioning_claims.report_progress(session, claim, num_done=2)
            api.broker.publish(progress_channel(made["id"]), b"")
        elif len(seen) == 2:
            cancel(api, made["id"])
    assert [each[:2] for each in seen] == [("queued", 0), ("running", 2), ("canceled", 2)]
    assert len({each[2] for each in seen}) == 3
    assert [message.id for message in stream(api, made["id"])] == [seen[2][2]]
    assert [message.id for message in stream(api, made["id"], after=seen[1][2])] == [seen[2][2]]
    known = {"Last-Event-ID": seen[2][2]}
    assert api.client.get(f"/captionings/{made['id']}/events", headers=known).status_code == 204


def test_a_stream_ends_with_its_captioning(api: LiveApi) -> None:
    made, seen = create(api), []
    for message in stream(api, made["id"]):
        seen.append(message.json()["status"])
        api.client.delete(f"/captionings/{made['id']}").raise_for_status()
    assert seen == ["queued"]
    assert api.client.get(f"/captionings/{made['id']}/events").status_code == 404


def test_anothers_stream_is_not_found(api: LiveApi, other: LiveApi) -> None:
    made = create(api)
    answers = [other.client.get(f"/captionings/{some}/events") for some in (made["id"], "cap_none")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json()["detail"].replace(made["id"], "cap_none") == answers[1].json()["detail"]


def cancel(api: LiveApi, captioning_id: str) -> None:
    api.client.post(f"/captionings/{captioning_id}/cancel").raise_for_status()


def test_they_are_listed_newest_first_and_by_dataset(api: LiveApi) -> None:
    first, second = create(api), create(api)
    assert [row["id"] for row in api.client.get("/captionings").json()["data"]] == [second["id"], first["id"]]
    found = api.client.get("/captionings", params={"dataset": first["dataset"]}).json()["data"]
    assert [row["id"] for row in found] == [first["id"]]


def test_only_missing_refuses_a_set_without_any(api: LiveApi) -> None:
    add_captioner(api)
    dataset_id = add_dataset(api, captions=True)
    answer = request(api, dataset_id, only_missing=True)
    assert answer.status_code == 422 and "/only_missing" in answer.json()["errors"]
    assert request(api, dataset_id).status_code == 202


@pytest.mark.parametrize(
    ("how", "pointer"),
    [
        ({"prompt": "what is it?"}, "/prompt"),
        ({"threshold": 0}, "/threshold"),
        ({"threshold": 1.5}, "/threshold"),
        ({"threshold": "0.5"}, "/threshold"),
        ({"only_missing": "yes"}, "/only_missing"),
        ({"prefix": "a\nb"}, "/prefix"),
        ({"suffix": "x" * 201}, "/suffix"),
        ({"prefix": "a\0"}, "/prefix"),
        ({"name": ""}, "/name"),
        ({"temperature": 1}, "/temperature"),
    ],
)
def test_what_cannot_be_done_is_refused(api: LiveApi, how: dict[str, Any], pointer: str) -> None:
    add_captioner(api)
    answer = request(api, add_dataset(api), **how)
    assert answer.status_code == 422 and pointer in answer.json()["errors"], answer.text


def test_a_captioner_that_writes_sentences_has_no_threshold(api: LiveApi) -> None:
    add_captioner(api, "words", "image-to-text")
    answer = request(api, add_dataset(api), "words", threshold=0.5)
    assert answer.status_code == 422 and "only a tagger" in answer.json()["detail"]
    made = request(api, add_dataset(api), "words", prompt="What is it?").json()
    assert (made["prompt"], made["threshold"]) == ("What is it?", None)


def test_what_is_not_there_or_not_ready(api: LiveApi) -> None:
    add_captioner(api)
    answer = request(api, add_dataset(api), "tag")
    assert answer.status_code == 404 and "Did you mean 'tags'?" in answer.json()["detail"]
    assert request(api, "ds_none").status_code == 404
    opened = api.client.post("/datasets", json={"name": "open"}).json()["id"]
    assert request(api, opened).status_code == 409


def test_a_canceled_one_makes_no_revision(api: LiveApi) -> None:
    made = create(api)
    claim = claim_captioning(api, made["id"])
    assert get(api, made["id"])["status"] == "running"
    canceled = api.client.post(f"/captionings/{made['id']}/cancel").raise_for_status().json()
    assert canceled["status"] == "canceled" and canceled["ended_at"] is not None
    num_datasets = len(api.client.get("/datasets").json()["data"])
    with api.sessions.begin() as session:
        assert not captioning_claims.succeed(session, claim, None, None)
    assert len(api.client.get("/datasets").json()["data"]) == num_datasets
    assert api.client.post(f"/captionings/{made['id']}/cancel").status_code == 409


def test_a_failed_one_says_why(api: LiveApi) -> None:
    made = create(api)
    claim = claim_captioning(api, made["id"])
    with api.sessions.begin() as session:
        assert captioning_claims.fail(session, claim, TerminationReason.BAD_INPUT, "The captioner was removed")
    failed = get(api, made["id"])
    assert failed["status"] == "failed" and failed["error"]["detail"] == "The captioner was removed."


def test_a_wait_ends_with_the_next_caption(api: LiveApi) -> None:
    made = create(api)
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(api.client.get(made["urls"]["self"], params={"wait": 30})))
    waiting.start()
    caption_as_a_worker(api, made["id"])
    waiting.join(40)
    assert answers[0].json()["status"] == "succeeded"


def test_a_captioning_goes_with_its_dataset_and_its_revision_stays(api: LiveApi) -> None:
    made = create(api)
    caption_as_a_worker(api, made["id"])
    revision = get(api, made["id"])["revision"]
    assert api.client.delete(f"/datasets/{made['dataset']}").status_code == 204
    assert api.client.get(f"/captionings/{made['id']}").status_code == 404
    assert api.client.get(f"/datasets/{revision}").json()["status"] == "ready"
    images = api.client.get(f"/datasets/{revision}/images").json()["data"]
    assert api.client.get(images[0]["url"]).status_code == 200


def test_a_dataset_that_is_deleted_meanwhile_ends_it(api: LiveApi) -> None:
    made = create(api)
    claim = claim_captioning(api, made["id"])
    assert api.client.delete(f"/datasets/{made['dataset']}").status_code == 204
    with api.sessions.begin() as session:
        assert not captioning_claims.succeed(session, claim, None, None)


def test_deleting_one_keeps_the_revision(api: LiveApi) -> None:
    made = create(api)
    caption_as_a_worker(api, made["id"])
    revision = get(api, made["id"])["revision"]
    assert api.client.delete(f"/captionings/{made['id']}").status_code == 204
    assert api.client.get(f"/captionings/{made['id']}").status_code == 404
    assert api.client.get(f"/datasets/{revision}").status_code == 200


def test_one_tenant_cannot_fill_the_queue(api: LiveApi) -> None:
    dataset_id = add_dataset(api)
    for _ in range(MAX_QUEUED):
        create(api, dataset_id)
    answer = request(api, dataset_id)
    assert answer.status_code == 429 and "20 captionings are waiting" in answer.json()["detail"]


# --- captioners -----------------------------------------------------------------------------------------------


@pytest.fixture
def operator(start_api: Any) -> LiveApi:
    api: LiveApi = start_api()
    (api.settings.models_path / "captioners" / "words").mkdir(parents=True)
    (api.settings.models_path / "captioners" / "file.safetensors").write_bytes(b"x")
    return api


def test_a_captioner_is_checked_by_a_worker(operator: LiveApi) -> None:
    answer = operator.client.post("/captioners", json={"path": "captioners/words", "description": "Words."})
    assert answer.status_code == 202 and answer.headers["location"] == "/captioners/words", answer.text
    made = answer.json()
    assert (made["status"], made["kind"], made["description"]) == ("checking", None, "Words.")
    busy = request(operator, add_dataset(operator), "words")
    assert busy.status_code == 409 and "/captioner" in busy.json()["errors"]
    info = CaptionerInfo(kind="image-to-text", architecture="Toy", takes_prompt=True, size=9, sha256="a" * 64)
    with operator.sessions.begin() as session:
        claim = captioners.claim_registration(session, lease_seconds=60)
        assert claim is not None and (claim.id, claim.location) == ("words", "captioners/words")
        assert captioners.commit_registration(session, claim, info)
    ready = operator.client.get("/captioners/words").json()
    assert (ready["status"], ready["kind"], ready["takes_prompt"], ready["size"]) == ("ready", "image-to-text", True, 9)
    assert operator.client.get("/captioners").json()["data"] == [ready]
    assert operator.client.delete("/captioners/words").status_code == 204
    assert (operator.settings.models_path / "captioners" / "words").is_dir(), "the operator's own"
    assert operator.client.get("/captioners/words").status_code == 404


def test_a_registration_that_was_overtaken_is_dropped(operator: LiveApi) -> None:
    operator.client.post("/captioners", json={"path": "captioners/words"})
    with operator.sessions.begin() as session:
        claim = captioners.claim_registration(session, lease_seconds=60)
    assert operator.client.delete("/captioners/words").status_code == 409, "a worker loads it"
    operator.client.post("/captioners", json={"hub_id": "some/words"})
    with operator.sessions.begin() as session:
        assert claim is not None and not captioners.reject_registration(session, claim, "too late")
    assert operator.client.get("/captioners/words").json()["status"] == "checking"


def test_a_fetched_folder_goes_with_its_captioner(operator: LiveApi) -> None:
    operator.client.post("/captioners", json={"hub_id": "some/Words", "id": "fetched"})
    folder = operator.settings.models_path / "captioners" / "fetched"
    folder.mkdir()
    (folder / "README.md").write_text("Atelier made this folder: it is replaced when fetched is registered again.\n")
    assert operator.client.delete("/captioners/fetched").status_code == 204
    assert not folder.exists()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"path": "../secret"}, "below the models directory"),
        ({"path": "."}, "below the models directory"),
        ({"path": "/etc"}, "below the models directory"),
        ({"path": "captioners/none"}, "is not in"),
        ({"path": "captioners/file.safetensors"}, "is a file, and a captioner is a folder"),
        ({"path": "captioners/words", "hub_id": "a/b"}, "either path or hub_id"),
        ({}, "either path or hub_id"),
        ({"hub_id": "not a name"}, "/hub_id"),
        ({"path": "captioners/words", "id": "No!"}, "/id"),
    ],
)
def test_what_is_not_a_captioner_is_refused(operator: LiveApi, body: dict[str, str], says: str) -> None:
    answer = operator.client.post("/captioners", json=body)
    assert answer.status_code == 422 and says in answer.json()["detail"], answer.text


def test_a_link_out_of_the_models_directory_is_refused(operator: LiveApi, tmp_path: Path) -> None:
    (operator.settings.models_path / "out").symlink_to(tmp_path)
    assert operator.client.post("/captioners", json={"path": "out"}).status_code == 422
