"""Datasets filled file by file, then finalized; and what can be read of a dataset."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from core.domain.states import DatasetStatus
from tests.app.conftest import LiveApi, as_tenant, make_settings, serve, workers_url
from tests.app.factory import add_dataset, draw_png, set_status, submit
from tests.app.test_dataset_uploads import list_rows
from tests.app.test_jobs import refuse


def open_dataset(api: LiveApi) -> str:
    answer = api.client.post("/datasets", json={"name": "toys"})
    assert answer.status_code == 201
    return str(answer.json()["id"])


def put(api: LiveApi, dataset: str, name: str, content: bytes) -> httpx.Response:
    return api.client.put(f"/datasets/{dataset}/files/{name}", content=content)


def test_filling_and_finalizing(api: LiveApi) -> None:
    answer = api.client.post("/datasets", json={"name": "toys"})
    assert answer.status_code == 201
    dataset = answer.json()
    assert answer.headers["location"] == dataset["urls"]["self"]
    assert (dataset["status"], dataset["name"], dataset["num_files"]) == ("open", "toys", 0)
    content = draw_png()
    answer = put(api, dataset["id"], "a.png", content)
    assert answer.status_code == 201
    assert answer.json() == {
        "object": "file",
        "filename": "a.png",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "created_at": answer.json()["created_at"],
    }
    assert put(api, dataset["id"], "folder/a.txt", b"a toy").json()["filename"] == "folder/a.txt"
    api.broker.delete("cpu")
    answer = api.client.post(dataset["urls"]["finalize"])
    assert (answer.status_code, answer.json()["status"], answer.json()["num_files"]) == (202, "validating", 2)
    api.wait_for_ring("cpu")


def test_an_open_dataset_needs_no_name(api: LiveApi) -> None:
    assert api.client.post("/datasets", json={}).json()["name"] is None


def test_bad_json(api: LiveApi) -> None:
    for body, pointer in (({"nmae": "x"}, "/nmae"), ({"name": 5}, "/name"), ({"name": "a\nb"}, "/name"), ([], "")):
        problem = refuse(api.client.post("/datasets", json=body), 422, "invalid-request")
        assert list(problem["errors"]) == [pointer], body
    for content in (b"{", b"", b"\xff"):
        answer = api.client.post("/datasets", content=content, headers={"Content-Type": "application/json"})
        refuse(answer, 422, "invalid-request")


def test_a_file_of_the_same_name_is_replaced(api: LiveApi) -> None:
    dataset = open_dataset(api)
    put(api, dataset, "a.png", draw_png(1))
    put(api, dataset, "a.png", draw_png(2))
    rows = list_rows(api, dataset)
    assert list(rows) == ["a.png"]
    assert api.list_stored(f"datasets/{dataset}") == [rows["a.png"].key]
    assert api.storage.read(rows["a.png"].key) == draw_png(2)


def test_a_file_does_not_come_beside_its_twin_in_another_spelling(api: LiveApi) -> None:
    """Many systems would take the two for one; which of them is meant nobody could tell later."""
    dataset = open_dataset(api)
    put(api, dataset, "caf%C3%A9.png", draw_png(1))
    for name in ("cafe%CC%81.png", "CAF%C3%89.png", "Caf%C3%A9.PNG"):
        problem = refuse(put(api, dataset, name, draw_png(2)), 422, "invalid-request")
        assert "the same name on many systems" in problem["detail"]
    assert put(api, dataset, "caf%C3%A9.png", draw_png(2)).status_code == 201
    assert put(api, dataset, "cafe%CC%81.txt", b"a caption").status_code == 201
    assert len(api.list_stored(f"datasets/{dataset}")) == 2


def test_names_that_begin_with_a_dot_are_names(api: LiveApi) -> None:
    dataset = open_dataset(api)
    for name in ("...more.png", ".hack/a.png", ".a.png"):
        assert put(api, dataset, name, draw_png()).json()["filename"] == name


def test_a_picture_without_a_suffix_is_taken_and_counts_as_an_image(api: LiveApi) -> None:
    dataset = open_dataset(api)
    assert put(api, dataset, "photo", draw_png()).status_code == 201
    assert put(api, dataset, "a.jpg_large", draw_png(2)).status_code == 201
    refuse(put(api, dataset, "text", b"hello"), 415, "unsupported-media")
    assert api.client.post(f"/datasets/{dataset}/finalize").status_code == 202


def test_files_that_are_refused(api: LiveApi) -> None:
    dataset = open_dataset(api)
    for name, content, status, slug in (
        ("cat.png", b"text", 422, "image-rejected"),
        ("cat.png", b"", 422, "image-rejected"),
        ("cat.psd", b"8BPS", 415, "unsupported-media"),
        ("cat.zip", b"PK", 415, "unsupported-media"),
        ("a/..%2Fb.png", draw_png(), 422, "invalid-request"),
        ("a%00.png", draw_png(), 422, "invalid-request"),
        ("%5Ca.png", draw_png(), 422, "invalid-request"),
        ("x" * 256 + ".png", draw_png(), 422, "invalid-request"),
    ):
        problem = put(api, dataset, name, content)
        assert problem.status_code == status, (name, problem.text)
        assert problem.json()["type"] == f"/problems/{slug}"
    assert list_rows(api, dataset) == {}
    assert api.list_stored(f"datasets/{dataset}") == []


def test_a_closed_dataset_takes_no_files(api: LiveApi) -> None:
    dataset = open_dataset(api)
    put(api, dataset, "a.png", draw_png())
    for status in (DatasetStatus.VALIDATING, DatasetStatus.READY, DatasetStatus.REJECTED):
        set_status(api, dataset, status)
        assert status in refuse(put(api, dataset, "b.png", draw_png()), 409, "wrong-state")["detail"]
        refuse(api.client.post(f"/datasets/{dataset}/finalize"), 409, "wrong-state")
    assert len(api.list_stored(f"datasets/{dataset}")) == 1


def test_finalizing_without_an_image(api: LiveApi) -> None:
    dataset = open_dataset(api)
    refuse(api.client.post(f"/datasets/{dataset}/finalize"), 422, "dataset-rejected")
    put(api, dataset, "a.txt", b"a toy")
    problem = refuse(api.client.post(f"/datasets/{dataset}/finalize"), 422, "dataset-rejected")
    assert "captions" in problem["detail"]
    assert api.client.get(f"/datasets/{dataset}").json()["status"] == "open"


def test_limits_of_an_open_dataset(start_api: Callable[..., LiveApi]) -> None:
    api = start_api(max_file_bytes=20_000, max_upload_bytes=30_000, max_images=1)
    dataset = open_dataset(api)
    refuse(put(api, dataset, "a.png", draw_png() + bytes(20_000)), 413, "too-large")
    assert put(api, dataset, "a.png", draw_png() + bytes(15_000)).status_code == 201
    refuse(put(api, dataset, "b.png", draw_png() + bytes(15_000)), 413, "too-large")
    assert put(api, dataset, "b.txt", b"b").status_code == 201
    assert put(api, dataset, "c.txt", b"c").status_code == 201
    refuse(put(api, dataset, "d.txt", b"d"), 413, "too-large")
    assert set(list_rows(api, dataset)) == {"a.png", "b.txt", "c.txt"}
    assert len(api.list_stored()) == 3


def test_files_put_and_finalized_at_the_same_time(api: LiveApi) -> None:
    """Whatever comes first: a file is either in the closed set, or refused and gone."""
    for _ in range(5):
        dataset = open_dataset(api)
        put(api, dataset, "0.png", draw_png())
        with ThreadPoolExecutor(8) as pool:
            puts = [pool.submit(put, api, dataset, f"{number}.png", draw_png(number)) for number in range(1, 7)]
            closing = pool.submit(api.client.post, f"/datasets/{dataset}/finalize").result()
            answers = [future.result() for future in puts]
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert closing.status_code in {202, 409}
        rows = list_rows(api, dataset)
        assert len(rows) == 1 + sum(answer.status_code == 201 for answer in answers)
        assert sorted(api.list_stored(f"datasets/{dataset}")) == sorted(row.key for row in rows.values())


def test_addresses_are_refused_where_storage_is_a_directory(api: LiveApi) -> None:
    dataset = open_dataset(api)
    body = {"files": [{"filename": "a.png", "size": 3, "sha256": "0" * 64}]}
    problem = refuse(api.client.post(f"/datasets/{dataset}/uploads", json=body), 409, "wrong-state")
    assert "PUT" in problem["detail"]
    assert list_rows(api, dataset) == {}


@pytest.fixture(scope="module")
def shared_s3_api(shared_api: LiveApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveApi]:
    """The same database, but storage is S3, and clients reach it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    settings = make_settings(
        shared_api.settings.database_url,
        shared_api.settings.redis_url,
        tmp_path_factory.mktemp("s3-api"),
        storage="s3://toys/prefix",
        s3_endpoint_url=endpoint,
        s3_public_endpoint_url=endpoint,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.session.Session().client("s3", endpoint_url=endpoint).create_bucket(Bucket="toys")
        with serve(settings, workers_url(shared_api)) as api:
            yield api
    server.stop()


@pytest.fixture
def s3_api(shared_s3_api: LiveApi) -> Iterator[LiveApi]:
    with as_tenant(shared_s3_api) as api:
        yield api


def test_uploads_straight_to_the_store(s3_api: LiveApi) -> None:
    dataset = open_dataset(s3_api)
    contents = {"a.png": draw_png(1), "b.png": draw_png(2)}
    announced = [
        {"filename": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    ]
    answer = s3_api.client.post(f"/datasets/{dataset}/uploads", json={"files": announced})
    assert answer.status_code == 201
    uploads = answer.json()["data"]
    problem = refuse(s3_api.client.post(f"/datasets/{dataset}/finalize"), 422, "invalid-request")
    assert "a.png, b.png" in problem["detail"]
    for upload in uploads:
        content = contents[upload["filename"]]
        sent = httpx.request(upload["method"], upload["url"], headers=upload["headers"], content=content)
        assert sent.status_code == 200
        assert base64.b64encode(hashlib.sha256(content).digest()).decode() in upload["headers"].values()
    assert s3_api.client.post(f"/datasets/{dataset}/finalize").json()["status"] == "validating"
    for name, row in list_rows(s3_api, dataset).items():
        assert s3_api.storage.read(row.key) == contents[name]


def test_downloads_lead_to_the_store(s3_api: LiveApi) -> None:
    dataset = add_dataset(s3_api)
    image = s3_api.client.get(f"/datasets/{dataset}/images").json()["data"][0]
    answer = s3_api.client.get(image["url"])
    assert (answer.status_code, answer.headers["etag"]) == (307, f'"{image["sha256"]}"')
    assert httpx.get(answer.headers["location"]).content == draw_png(0)


def test_announced_files_are_checked(s3_api: LiveApi) -> None:
    dataset = open_dataset(s3_api)
    good = {"filename": "a.png", "size": 3, "sha256": "0" * 64}
    for changes, status, slug in (
        ({"filename": "a.exe"}, 415, "unsupported-media"),
        ({"filename": "../a.png"}, 422, "invalid-request"),
        ({"size": 0}, 422, "invalid-request"),
        ({"size": 2**40}, 413, "too-large"),
        ({"sha256": "xyz"}, 422, "invalid-request"),
        ({"extra": 1}, 422, "invalid-request"),
    ):
        answer = s3_api.client.post(f"/datasets/{dataset}/uploads", json={"files": [{**good, **changes}]})
        refuse(answer, status, slug)
    twice = {"files": [good, {**good, "filename": "A.png"}]}
    refuse(s3_api.client.post(f"/datasets/{dataset}/uploads", json=twice), 422, "invalid-request")
    refuse(s3_api.client.post(f"/datasets/{dataset}/uploads", json={"files": []}), 422, "invalid-request")


def test_a_ready_dataset_shows_its_report_and_images(api: LiveApi) -> None:
    dataset = add_dataset(api, num_images=3)
    shown = api.client.get(f"/datasets/{dataset}").json()
    assert (shown["status"], shown["num_images"], len(shown["manifest_sha256"])) == ("ready", 3, 64)
    assert shown["report"]["num_files"] == 3
    assert [warning["code"] for warning in shown["report"]["warnings"]] == ["few-images", "near-duplicates"]
    page = api.client.get(f"/datasets/{dataset}/images").json()
    assert [image["name"] for image in page["data"]] == ["toys/0.png", "toys/1.png", "toys/2.png"]
    image = page["data"][1]
    assert (image["caption"], image["width"], image["height"]) == ("toy number 1", 64, 64)
    assert "key" not in image
    file = api.client.get(image["url"])
    assert (file.content, file.headers["content-type"]) == (draw_png(1), "image/png")
    assert file.headers["content-disposition"] == 'attachment; filename="1.png"'
    assert "sandbox" in file.headers["content-security-policy"]
    refuse(api.client.get(f"/datasets/{dataset}/images/{'0' * 64}.png"), 404, "not-found")
    refuse(api.client.get(f"/datasets/{dataset}/images/..%2f..%2fx.png"), 404, "not-found")


def test_images_page_by_page(api: LiveApi) -> None:
    url = f"/datasets/{add_dataset(api, num_images=5)}/images"
    first = api.client.get(f"{url}?limit=2").json()
    assert (first["has_more"], first["last_id"]) == (True, "toys/1.png")
    rest = api.client.get(url, params={"limit": 3, "after": first["last_id"]}).json()
    assert ([image["name"][5] for image in rest["data"]], rest["has_more"]) == (["2", "3", "4"], False)
    refuse(api.client.get(url, params={"after": "none.png"}), 404, "not-found")


def test_images_are_listed_when_the_dataset_is_ready(api: LiveApi) -> None:
    refuse(api.client.get(f"/datasets/{open_dataset(api)}/images"), 409, "wrong-state")


def test_datasets_are_listed_newest_first(api: LiveApi) -> None:
    ids = [open_dataset(api), add_dataset(api), open_dataset(api)]
    page = api.client.get("/datasets?limit=2").json()
    assert ([row["id"] for row in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    assert page["data"][1]["num_images"] == 3
    page = api.client.get(f"/datasets?after={page['last_id']}").json()
    assert [row["id"] for row in page["data"]] == [ids[0]]
    assert [row["id"] for row in api.client.get("/datasets?status=ready").json()["data"]] == [ids[1]]


def test_deleting_takes_the_files_but_not_from_under_a_job(api: LiveApi) -> None:
    dataset = open_dataset(api)
    put(api, dataset, "a.png", draw_png())
    assert api.client.delete(f"/datasets/{dataset}").status_code == 204
    assert api.list_stored(f"datasets/{dataset}") == []
    refuse(api.client.get(f"/datasets/{dataset}"), 404, "not-found")
    job = submit(api)
    problem = refuse(api.client.delete(f"/datasets/{job['dataset']}"), 409, "wrong-state")
    assert job["id"] in problem["detail"]
    assert len(api.list_stored(f"datasets/{job['dataset']}")) == 3


def test_a_rejected_dataset_says_why(api: LiveApi) -> None:
    from core.db.tables import Dataset

    dataset = open_dataset(api)
    with api.sessions.begin() as session:
        row = session.get_one(Dataset, dataset)
        row.status = DatasetStatus.REJECTED
        row.error = {"type": "/problems/dataset-rejected", "title": "No", "detail": "No image."}
    assert api.client.get(f"/datasets/{dataset}").json()["error"]["detail"] == "No image."
