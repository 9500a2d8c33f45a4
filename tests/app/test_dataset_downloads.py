"""GET /datasets/{id}/download: an archive that trainers read, and that gives the same dataset again."""

import io
import json
import zipfile

import httpx
import pytest
from PIL import Image

from core.domain.states import DatasetStatus
from tests.app.conftest import LiveApi
from tests.app.factory import add_dataset, set_status
from tests.app.test_jobs import refuse
from tests.app.uploader import Uploader, translucent
from tests.fixtures.pictures import png


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png(number))).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def mask() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(Image.open(io.BytesIO(png(1))).size).save(buffer, "PNG")
    return buffer.getvalue()


def download(api: LiveApi, dataset: str, layout: str) -> httpx.Response:
    answer = api.client.get(f"/datasets/{dataset}/download", params={"layout": layout})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip"), answer.text
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer


def open_zip(answer: httpx.Response) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    return archive


def hash_of(api: LiveApi, dataset: str) -> str:
    return str(api.client.get(f"/datasets/{dataset}").json()["manifest_sha256"])


KOHYA = {
    "img/10_blip toy/a.png": png(1),
    "img/10_blip toy/a.txt": b"a toy, caf\xc3\xa9",
    "img/2_other/b.png": translucent(2),
    "img/2_other/c.png": png(3),
    "img/2_other/c-masklabel.png": mask(),
    "img/2_other/c.txt": b"a masked one",
    "reg/1_toy/d.png": png(4),
}
FLAT = {"a.png": png(1), "a.txt": b"a toy", "sub/\u00e9.PNG": png(2), "b.png": translucent(3), "b.caption": b"b"}


@pytest.mark.parametrize(("files", "layout"), [(KOHYA, "kohya"), (KOHYA, "imagefolder"), (FLAT, "imagefolder")])
def test_uploaded_again_it_is_the_same_dataset(
    api: LiveApi, upload: Uploader, files: dict[str, bytes], layout: str
) -> None:
    first = upload(files)
    again = upload(download(api, first, layout).content)
    assert hash_of(api, again) == hash_of(api, first)


def test_kohyas_layout(api: LiveApi, upload: Uploader) -> None:
    dataset = upload({"a.png": png(1), "a.txt": b"a toy", "sub/a.jpg": jpeg(2), "a.webp": jpeg(3)})
    api.client.post(f"/datasets/{dataset}/revisions", json={"prefix": "x ", "name": "caf\u00e9: 1/2"})
    revised = api.client.get("/datasets").json()["data"][0]
    answer = download(api, revised["id"], "kohya")
    disposition = answer.headers["content-disposition"]
    assert disposition == "attachment; filename=\"cafe-1-2.zip\"; filename*=UTF-8''caf%C3%A9-%201-2.zip"
    archive, folder = open_zip(answer), "1_caf\u00e9- 1-2"
    names = ("a.png", "a.txt", "a (2).png", "a (2).txt", "sub_a.png")
    assert archive.namelist() == [f"{folder}/{name}" for name in names], (
        "a.png keeps its name, and a.webp takes another"
    )
    assert archive.read(f"{folder}/a.txt") == b"x a toy"
    assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    again = upload(answer.content)
    images = api.client.get(f"/datasets/{again}/images").json()["data"]
    assert {image["caption"] for image in images} == {"x a toy", "caf\u00e9- 1-2"}, "kohya's folder is the caption"
    assert api.client.get(f"/datasets/{again}").json()["report"]["left_out"] == []


def test_imagefolder_has_a_row_for_each_image(api: LiveApi, upload: Uploader) -> None:
    archive = open_zip(
        download(api, upload({"a.png": png(1), "b.jpg": jpeg(2), "b.txt": b"b \xf0\x9f\x90\x88"}), "imagefolder")
    )
    rows = [json.loads(line) for line in archive.read("metadata.jsonl").splitlines()]
    assert rows == [{"file_name": "a.png", "text": ""}, {"file_name": "b.png", "text": "b \U0001f408"}]
    assert archive.namelist() == ["metadata.jsonl", "a.png", "b.png"]
    assert all(archive.read(name).startswith(b"\x89PNG") for name in ("a.png", "b.png"))


def test_head_and_conditions(api: LiveApi) -> None:
    url = f"/datasets/{add_dataset(api)}/download?layout=kohya"
    got, headed = api.client.get(url), api.client.head(url)
    assert (headed.status_code, headed.content) == (200, b"")
    for name in ("content-length", "content-disposition", "etag", "content-type"):
        assert headed.headers[name] == got.headers[name]
    assert api.client.get(url, headers={"If-None-Match": got.headers["etag"]}).status_code == 304
    refuse(api.client.get(url, headers={"If-Match": '"x"'}), 412, "precondition-failed")
    assert api.client.get(url).content == got.content


def test_only_a_ready_dataset_of_the_tenant(api: LiveApi, other: LiveApi) -> None:
    refuse(api.client.get(f"/datasets/{add_dataset(other)}/download"), 404, "not-found")
    refuse(api.client.get(f"/datasets/{add_dataset(api)}/download?layout=coco"), 422, "invalid-request")
    set_status(api, unready := add_dataset(api), DatasetStatus.VALIDATING)
    refuse(api.client.get(f"/datasets/{unready}/download"), 409, "wrong-state")


def test_a_lost_image_cuts_the_archive_off(api: LiveApi) -> None:
    dataset = add_dataset(api)
    api.storage.delete_prefix(f"datasets/{dataset}")
    with pytest.raises(httpx.RemoteProtocolError):
        api.client.get(f"/datasets/{dataset}/download")
