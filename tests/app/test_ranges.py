"""Parts of files: RFC 9110, sections 13 and 14, as curl -C -, browsers and download managers ask for them."""

import hashlib
from collections.abc import Callable

import httpx
import pytest

from tests.app.conftest import LiveApi
from tests.app.factory import Worker, submit
from tests.app.test_jobs import refuse


@pytest.fixture
def adapter(api: LiveApi) -> tuple[str, bytes]:
    """Where it is, and its bytes: more than one chunk of the store's."""
    job = submit(api)
    return f"/jobs/{job['id']}/adapter", Worker(api, job["id"]).succeed()["kohya"]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, -1),
        ("bytes=-7", -7, -1),
        ("bytes=5-999999999999", 5, -1),
        ("bytes=-999999999999", 0, -1),
        ("Bytes = 3-4", 3, 4),
    ],
)
def test_a_range_is_sent_alone(api: LiveApi, adapter: tuple[str, bytes], asked: str, first: int, last: int) -> None:
    url, whole = adapter
    size = len(whole)
    first, last = first % size, last % size
    answer = api.client.get(url, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == whole[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
    assert answer.headers["content-length"] == str(last + 1 - first)
    assert answer.headers["etag"] == f'"{hashlib.sha256(whole).hexdigest()}"'
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=5-3", "bytes=-", "bytes=x-y", "lines=0-4", "bytes", ""])
def test_other_ranges_are_passed_over(api: LiveApi, adapter: tuple[str, bytes], asked: str) -> None:
    url, whole = adapter
    answer = api.client.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, whole)
    assert "content-range" not in answer.headers


@pytest.mark.parametrize("asked", ["bytes={size}-", "bytes={size}-{size}", "bytes=9999999999999-", "bytes=-0"])
def test_a_range_behind_the_end_is_416(api: LiveApi, adapter: tuple[str, bytes], asked: str) -> None:
    url, whole = adapter
    answer = api.client.get(url, headers={"Range": asked.format(size=len(whole))})
    problem = refuse(answer, 416, "range-not-satisfiable")
    assert f"{len(whole):,} bytes" in problem["detail"]
    assert answer.headers["content-range"] == f"bytes */{len(whole)}"


def test_if_range_continues_the_same_file_and_begins_anew_with_another(
    api: LiveApi, adapter: tuple[str, bytes]
) -> None:
    url, whole = adapter
    etag = api.client.head(url).headers["etag"]
    same = api.client.get(url, headers={"Range": "bytes=10-", "If-Range": etag})
    assert (same.status_code, same.content) == (206, whole[10:])
    for other in ('"other"', f"W/{etag}", "Sat, 31 Jan 2026 12:00:00 GMT"):
        answer = api.client.get(url, headers={"Range": "bytes=10-", "If-Range": other})
        assert (answer.status_code, answer.content) == (200, whole), other
    behind = api.client.get(url, headers={"Range": "bytes=9999999999-", "If-Range": '"other"'})
    assert behind.status_code == 200, "the condition is looked at first"


@pytest.mark.parametrize("sent", ["{etag}", "W/{etag}", '"other", {etag}', "*"])
def test_if_none_match_stands_before_the_range(api: LiveApi, adapter: tuple[str, bytes], sent: str) -> None:
    url, _ = adapter
    etag = api.client.head(url).headers["etag"]
    answer = api.client.get(url, headers={"Range": "bytes=0-3", "If-None-Match": sent.format(etag=etag)})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)


def test_if_match_holds_a_download_to_one_file(api: LiveApi, adapter: tuple[str, bytes]) -> None:
    url, whole = adapter
    etag = api.client.head(url).headers["etag"]
    for sent in (etag, "*", f'"other", {etag}', f'W/"other", {etag}'):
        assert api.client.get(url, headers={"If-Match": sent, "Range": "bytes=0-3"}).content == whole[:4]
    for sent in ('"other"', f"W/{etag}", f'"other", W/{etag}'):
        refuse(api.client.get(url, headers={"If-Match": sent}), 412, "precondition-failed")
        assert api.client.head(url, headers={"If-Match": sent}).status_code == 412


def test_a_hash_within_another_tag_is_not_the_tag(api: LiveApi, adapter: tuple[str, bytes]) -> None:
    url, _ = adapter
    etag = api.client.head(url).headers["etag"].strip('"')
    assert api.client.get(url, headers={"If-None-Match": f'"{etag}-gzip"'}).status_code == 200


def test_images_checkpoints_and_adapters_take_ranges(api: LiveApi) -> None:
    job = submit(api)
    worker = Worker(api, job["id"])
    checkpoint = worker.checkpoint(2)
    worker.sample(3)
    worker.succeed()
    base, image = f"/jobs/{job['id']}", api.client.get(f"/datasets/{job['dataset']}/images").json()["data"][0]
    adapter = api.client.get("/adapters").json()["data"][0]["id"]
    for url in (
        f"{base}/checkpoints/2/download",
        f"{base}/samples/3/grid.png",
        f"{base}/samples/3/0.png",
        f"/adapters/{adapter}/download",
        image["url"],
    ):
        whole = api.client.get(url).content
        part = api.client.get(url, headers={"Range": "bytes=4-9"})
        assert (part.status_code, part.content) == (206, whole[4:10]), url
    assert checkpoint == api.client.get(f"{base}/checkpoints/2/download").content


def test_files_in_an_s3_store(
    start_api: Callable[..., LiveApi], bucket: str, s3_endpoint: str, aws_environment: None
) -> None:
    """Through the service where clients do not reach the store; else by an address, at which the store takes ranges."""
    for public in (None, s3_endpoint):
        api = start_api(storage=f"s3://{bucket}", s3_endpoint_url=s3_endpoint, s3_public_endpoint_url=public)
        job = submit(api, name="Käthe")
        whole, url = Worker(api, job["id"]).succeed()["kohya"], f"/jobs/{job['id']}/adapter"
        headed = api.client.head(url, follow_redirects=True)
        assert headed.status_code == 200, "an address is signed for GET alone"
        assert (headed.headers["content-length"], headed.headers["accept-ranges"]) == (str(len(whole)), "bytes")
        answer = api.client.get(url, headers={"Range": "bytes=100-"})
        assert answer.status_code == (307 if public else 206)
        if public:
            answer = httpx.get(answer.headers["location"], headers={"Range": "bytes=100-"})
        assert (answer.status_code, answer.content) == (206, whole[100:])
        assert "filename*=UTF-8''K%C3%A4the.safetensors" in answer.headers["content-disposition"]
