"""POST /datasets/{id}/revisions: what each edit does, what is refused, and that shared images outlive their dataset."""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from PIL import Image

from core.db import quotas
from core.db.tables import Dataset
from core.domain.limits import Limits
from core.domain.states import DatasetStatus
from tests.app.conftest import LiveApi
from tests.app.factory import add_dataset, add_model, set_status
from tests.app.test_jobs import refuse
from tests.app.uploader import Uploader, translucent
from tests.fixtures.pictures import encode, png


def post(api: LiveApi, dataset: str, **edits: Any) -> httpx.Response:
    return api.client.post(f"/datasets/{dataset}/revisions", json=edits)


def revise(api: LiveApi, dataset: str, **edits: Any) -> str:
    answer = post(api, dataset, **edits)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def list_images(api: LiveApi, dataset: str) -> list[dict[str, Any]]:
    return list(api.client.get(f"/datasets/{dataset}/images").json()["data"])


def list_captions(api: LiveApi, dataset: str) -> list[str | None]:
    return [image["caption"] for image in list_images(api, dataset)]


def delete(api: LiveApi, dataset: str) -> None:
    assert api.client.delete(f"/datasets/{dataset}").status_code == 204


def test_images_say_at_which_size_a_base_is_trained_with_them(api: LiveApi) -> None:
    dataset = add_dataset(api)
    assert {image["bucket"] for image in list_images(api, dataset)} == {None}
    model = add_model(api)
    answer = api.client.get(f"/datasets/{dataset}/images?model={model}").json()
    assert [image["bucket"] for image in answer["data"]] == [
        {"width": 64, "height": 64, "cut_width": 0.0, "cut_height": 0.0}
    ] * 3
    refuse(api.client.get(f"/datasets/{dataset}/images?model=none"), 404, "not-found")


def test_a_revision_is_a_ready_dataset_of_its_own(api: LiveApi) -> None:
    parent = add_dataset(api)
    answer = post(api, parent, exclude=["toys/0.png"], captions={"toys/1.png": "a robot", "toys/2.png": None})
    shown = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"/datasets/{shown['id']}")
    assert (shown["status"], shown["parent"], shown["name"], shown["num_images"]) == ("ready", parent, "toys", 2)
    assert shown["validated_at"] is not None
    assert shown["report"]["notes"] == [f"Revision of {parent}: 1 image left out, 2 captions changed."]
    assert [w["files"] for w in shown["report"]["warnings"] if w["code"] == "missing-captions"] == [["toys/2.png"]]
    assert shown == api.client.get(shown["urls"]["self"]).json()
    assert [row["id"] for row in api.client.get(f"/datasets?parent={parent}").json()["data"]] == [shown["id"]]
    assert api.client.get(f"/datasets?parent={shown['id']}").json()["data"] == []
    images = list_images(api, shown["id"])
    assert [(image["name"], image["caption"]) for image in images] == [("toys/1.png", "a robot"), ("toys/2.png", None)]
    for image in images:
        assert api.client.get(image["url"]).content.startswith(b"\x89PNG")
    assert api.list_stored(f"datasets/{shown['id']}") == []
    assert list_captions(api, parent) == [f"toy number {n}" for n in range(3)], "the parent never changes"
    job = {"model": add_model(api), "dataset": shown["id"], "trigger": "toy", "steps": 10}
    assert api.client.post("/jobs", json=job).status_code == 201


def test_the_same_edits_give_the_same_hash(api: LiveApi) -> None:
    parent = add_dataset(api)
    ids = [revise(api, parent, prefix="a photo of ") for _ in range(2)]
    assert len({api.client.get(f"/datasets/{one}").json()["manifest_sha256"] for one in [parent, *ids]}) == 2


def test_a_revision_of_a_revision(api: LiveApi) -> None:
    first = revise(api, parent := add_dataset(api), exclude=["toys/0.png"], name="fewer")
    second = revise(api, first, suffix=", blue")
    shown = api.client.get(f"/datasets/{second}").json()
    assert (shown["parent"], shown["name"]) == (first, "fewer")
    assert list_captions(api, second) == ["toy number 1, blue", "toy number 2, blue"]
    delete(api, first)
    assert api.client.get(f"/datasets/{second}").json()["parent"] is None
    delete(api, parent)
    assert all(api.client.get(image["url"]).status_code == 200 for image in list_images(api, second))


def test_images_are_taken_from_another_dataset_once(api: LiveApi) -> None:
    mine, more = add_dataset(api, num_images=2), add_dataset(api, num_images=4, captions=False)
    taken = post(api, mine, include=[{"dataset": more}]).json()
    assert taken["num_images"] == 4
    assert len(taken["report"]["left_out"]) == 2
    assert "same pixels" in taken["report"]["left_out"][0]["reason"]
    renamed = revise(api, mine, exclude=["toys/1.png"], include=[{"dataset": more, "images": ["toys/1.png"]}])
    assert [image["name"] for image in list_images(api, renamed)] == ["toys/0.png", "toys/1.png"]
    problem = refuse(post(api, mine, include=[{"dataset": more, "images": ["9.png"]}]), 422, "invalid-request")
    assert problem["errors"] == {"/include/0/images": ["there is no image 9.png"]}


@pytest.mark.parametrize(
    ("edits", "pointer"),
    [
        ({"exclude": ["toys/9.png", "toys/0.png"]}, "/exclude"),
        ({"captions": {"9.png": "x"}}, "/captions"),
        ({"exclude": ["toys/0.png"], "captions": {"toys/0.png": "x"}}, "/captions"),
        ({"crop": {"9.png": {"left": 0, "top": 0, "width": 16, "height": 16}}}, "/crop"),
        ({"crop": {"toys/0.png": {"left": 50, "top": 0, "width": 16, "height": 16}}}, "/crop"),
        ({"captions": {"toys/0.png": "x" * 2001}}, "/captions/toys~10.png"),
        ({"captions": {"toys/0.png": " \u200b"}}, "/captions/toys~10.png"),
        ({"prefix": "x\n"}, "/prefix"),
        ({"remove_tags": ["a, b"]}, "/remove_tags/0"),
        ({"find_replace": [{"find": ""}]}, "/find_replace/0/find"),
        ({"find_replace": [{"find": "toy", "regex": True}]}, "/find_replace/0/regex"),
        ({"find_replace": [{"find": "o", "replace": "o" * 200}] * 3}, ""),
        ({"shuffle": True}, "/shuffle"),
    ],
)
def test_faults_are_named(api: LiveApi, edits: dict[str, Any], pointer: str) -> None:
    problem = refuse(post(api, add_dataset(api), **edits), 422, "invalid-request")
    assert list(problem["errors"]) == [pointer]


def test_edits_must_change_something_and_leave_an_image(api: LiveApi) -> None:
    dataset = add_dataset(api)
    for edits in ({}, {"name": "other"}, {"captions": {"toys/0.png": "toy number 0"}}, {"remove_tags": ["x"]}):
        assert "change nothing" in refuse(post(api, dataset, **edits), 422, "invalid-request")["detail"]
    whole = {"toys/0.png": {"left": 0, "top": 0, "width": 64, "height": 64}}
    refuse(post(api, dataset, crop=whole), 422, "invalid-request")
    refuse(post(api, dataset, exclude=[f"toys/{n}.png" for n in range(3)]), 422, "dataset-rejected")


def test_only_a_ready_dataset_of_the_tenant(api: LiveApi, other: LiveApi) -> None:
    mine, theirs = add_dataset(api), add_dataset(other)
    for dataset, include in ((theirs, mine), (mine, theirs), (mine, "ds_none")):
        refuse(post(api, dataset, include=[{"dataset": include}]), 404, "not-found")
    for status in (DatasetStatus.OPEN, DatasetStatus.VALIDATING, DatasetStatus.REJECTED):
        set_status(api, unready := add_dataset(api), status)
        refuse(post(api, unready, prefix="x "), 409, "wrong-state")
        refuse(post(api, mine, include=[{"dataset": unready}]), 409, "wrong-state")


def test_shared_images_live_as_long_as_a_dataset_uses_them(api: LiveApi) -> None:
    parent = add_dataset(api)
    shas = [image["sha256"] for image in list_images(api, parent)]
    first = revise(api, parent, exclude=["toys/0.png"])
    second = revise(api, first, exclude=["toys/1.png"])
    folder = f"datasets/{parent}"

    def stored() -> list[str]:
        return [next(sha for sha in shas if sha in key) for key in api.list_stored(folder)]

    assert sorted(stored()) == sorted(shas)
    delete(api, parent)
    assert sorted(stored()) == sorted(shas[1:])
    delete(api, first)
    assert stored() == shas[2:]
    delete(api, second)
    assert api.list_stored(folder) == []


def used_bytes(api: LiveApi) -> int:
    return int(api.client.get("/usage").json()["stored_bytes"]["used"])


def size_of_lists(api: LiveApi, *revisions: str) -> int:
    """Of their manifests in the database."""
    with api.sessions() as session:
        sizes = sa.select(sa.func.pg_column_size(Dataset.manifest)).where(Dataset.id.in_(revisions))
        return sum(session.execute(sizes).scalars())


def test_shared_bytes_count_once(api: LiveApi) -> None:
    parent = add_dataset(api)
    sizes = [image["size"] for image in list_images(api, parent)]
    first = revise(api, parent, exclude=["toys/0.png"])
    second = revise(api, parent, exclude=["toys/1.png"], prefix="a ")
    third = revise(api, second, suffix="!")
    lists = size_of_lists(api, first, second, third)
    assert used_bytes(api) == sum(sizes) + lists
    delete(api, parent)
    assert used_bytes(api) == sum(sizes) + lists
    delete(api, first)
    assert used_bytes(api) == sizes[0] + sizes[2] + size_of_lists(api, second, third)
    delete(api, second)
    assert used_bytes(api) == sizes[0] + sizes[2] + size_of_lists(api, third)
    delete(api, third)
    assert used_bytes(api) == 0


def crop(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"left": left, "top": top, "width": width, "height": height}


def open_image(api: LiveApi, image: dict[str, Any]) -> Image.Image:
    content = api.client.get(image["url"]).content
    assert hashlib.sha256(content).hexdigest() == image["sha256"]
    return Image.open(io.BytesIO(content))


def test_a_worker_crops_images_and_their_masks(api: LiveApi, upload: Uploader) -> None:
    parent = upload({"a.png": png(1), "b.png": translucent(2), "c.png": png(3)})
    boxes = {"a.png": crop(8, 4, 24, 16), "b.png": crop(0, 20, 48, 20)}
    answer = post(api, parent, crop=boxes, prefix="x ", captions={"a.png": "a toy"})
    shown = answer.json()
    assert (answer.status_code, shown["status"], shown["num_images"]) == (202, "validating", None)
    refuse(api.client.get(shown["urls"]["images"]), 409, "wrong-state")
    dataset = upload.finish(shown["id"])
    shown = api.client.get(f"/datasets/{dataset}").json()
    assert (shown["parent"], shown["num_images"], shown["report"]["left_out"]) == (parent, 3, [])
    assert shown["report"]["notes"] == [f"Revision of {parent}: 1 caption changed, 2 images cropped."]
    before, after = list_images(api, parent), list_images(api, dataset)
    assert [image["caption"] for image in after] == ["x a toy", None, None]
    assert after[2]["sha256"] == before[2]["sha256"]
    for old, new, box in zip(before[:2], after[:2], boxes.values(), strict=True):
        region = (box["left"], box["top"], box["left"] + box["width"], box["top"] + box["height"])
        assert open_image(api, new).tobytes() == open_image(api, old).crop(region).tobytes()
        assert (new["width"], new["height"]) == (box["width"], box["height"])
    assert len(api.list_stored(f"datasets/{dataset}")) == 2
    delete(api, parent)
    assert len(api.list_stored(f"datasets/{parent}")) == 1
    delete(api, dataset)
    assert api.list_stored(f"datasets/{parent}") == []
    assert api.list_stored(f"datasets/{dataset}") == []


def test_the_parent_may_be_deleted_while_a_revision_waits_for_its_crops(api: LiveApi, upload: Uploader) -> None:
    parent = upload({"a.png": png(1), "b.png": png(2)})
    waiting = post(api, parent, crop={"a.png": crop(0, 0, 16, 16)}).json()["id"]
    delete(api, parent)
    assert api.client.get("/usage").json()["stored_bytes"]["used"] > 0
    assert len(list_images(api, upload.finish(waiting))) == 2


def test_a_part_that_is_there_already_or_hidden_is_left_out(api: LiveApi, upload: Uploader) -> None:
    white = Image.new("RGBA", (32, 64), (9, 9, 9, 255))
    white.paste((9, 9, 9, 0), (0, 32, 32, 64))
    parent = upload({"a.png": encode(white), "b.png": encode(Image.new("RGB", (16, 16), (9, 9, 9))), "c.png": png(1)})
    same = post(api, parent, crop={"a.png": crop(0, 0, 16, 16)}).json()["id"]
    reasons = [
        item["reason"] for item in api.client.get(f"/datasets/{upload.finish(same)}").json()["report"]["left_out"]
    ]
    assert reasons == ["Its part has exactly the same pixels as b.png."]
    hidden = post(api, parent, exclude=["b.png", "c.png"], crop={"a.png": crop(0, 40, 16, 16)}).json()["id"]
    assert upload.validator.run_next()
    shown = api.client.get(f"/datasets/{hidden}").json()
    assert (shown["status"], shown["error"]["type"]) == ("rejected", "/problems/dataset-rejected")
    assert "Nothing of it is visible" in shown["report"]["left_out"][0]["reason"]
    for dataset in (same, parent, hidden):
        delete(api, dataset)
    assert [api.list_stored(f"datasets/{dataset}") for dataset in (same, parent, hidden)] == [[], [], []]


def test_quotas_hold_for_crops_and_for_lists(api: LiveApi) -> None:
    parent = add_dataset(api)
    size = size_of_lists(api, revise(api, parent, prefix="one "))
    limit = used_bytes(api) + size + 50
    with api.sessions.begin() as session:
        quotas.set_limits(session, api.tenant_id, Limits.unlimited().model_copy(update={"stored_bytes": limit}))
    cropped = post(api, parent, prefix="two ", crop={"toys/0.png": crop(0, 0, 16, 16)})
    assert "storage" in refuse(cropped, 429, "quota-exceeded")["detail"]
    revise(api, parent, prefix="two ")
    refuse(post(api, parent, prefix="six "), 429, "quota-exceeded")
    assert len(api.client.get("/datasets").json()["data"]) == 3


def test_revisions_and_deletions_at_once_lose_no_image(api: LiveApi) -> None:
    for _ in range(4):
        parent = add_dataset(api)
        middle = revise(api, parent, prefix="a ")
        with ThreadPoolExecutor(8) as pool:
            made = [pool.submit(post, api, (parent, middle)[n % 2], suffix=f" {n}") for n in range(6)]
            gone = [pool.submit(api.client.delete, f"/datasets/{one}") for one in (parent, middle)]
        assert {one.result().status_code for one in gone} == {204}
        answers = [one.result() for one in made]
        assert {answer.status_code for answer in answers} <= {201, 404}
        kept = [answer.json()["id"] for answer in answers if answer.status_code == 201]
        for dataset in kept:
            assert [api.client.get(image["url"]).status_code for image in list_images(api, dataset)] == [200] * 3
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda dataset: delete(api, dataset), kept))
        assert api.list_stored(f"datasets/{parent}") == []
