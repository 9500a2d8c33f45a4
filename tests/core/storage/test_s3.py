"""What is special about S3: addresses for clients, many objects, and a network that fails."""

import base64
import hashlib
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from core.storage import ObjectNotFound, StorageError, StorageFull, StorageUnavailable, open_storage
from core.storage.s3 import S3Storage
from core.storage.s3_errors import error_kind
from tests.core.storage.scripted import BreakingOff, ScriptedStore

IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(1000)
DIGEST = hashlib.sha256(IMAGE).digest()
UPLOAD = {"size": len(IMAGE), "sha256_base64": base64.b64encode(DIGEST).decode(), "content_type": "image/png"}


@pytest.fixture
def public_endpoint(s3_endpoint: str) -> str:
    """The same server under another name, as clients would see it."""
    return s3_endpoint.replace("127.0.0.1", "localhost")


@pytest.fixture
def storage(bucket: str, s3_endpoint: str, public_endpoint: str) -> S3Storage:
    return S3Storage(bucket, "some/prefix/", endpoint_url=s3_endpoint, public_endpoint_url=public_endpoint)


def test_a_client_uploads_by_an_address(storage: S3Storage, public_endpoint: str) -> None:
    upload = storage.upload_url("datasets/ds_1/uploads/1", **UPLOAD, expires_seconds=900)
    assert upload is not None
    assert upload.url.startswith(f"{public_endpoint}/")
    assert abs(upload.expires_at - datetime.now(UTC) - timedelta(seconds=900)) < timedelta(seconds=60)

    httpx.request(upload.method, upload.url, headers=upload.headers, content=IMAGE).raise_for_status()

    stat = storage.stat("datasets/ds_1/uploads/1")
    assert stat is not None
    assert (stat.size, stat.sha256) == (len(IMAGE), DIGEST.hex())
    assert storage.read("datasets/ds_1/uploads/1") == IMAGE


def test_length_type_and_checksum_are_part_of_the_signature(storage: S3Storage, bucket: str) -> None:
    upload = storage.upload_url("a", **UPLOAD, expires_seconds=60)
    assert upload is not None
    address = urlsplit(upload.url)
    query = parse_qs(address.query)

    assert address.path == f"/{bucket}/some/prefix/a"
    assert query["X-Amz-Expires"] == ["60"]
    signed = set(query["X-Amz-SignedHeaders"][0].split(";"))
    assert signed == {"host", *(name.lower() for name in upload.headers)}
    assert signed >= {"content-length", "content-type", "x-amz-checksum-sha256"}


@pytest.mark.parametrize(
    "change",
    [
        {"expires_seconds": 0},
        {"expires_seconds": 901},
        {"size": -1},
        {"size": (5 << 30) + 1},
        {"sha256_base64": "not base64!"},
        {"sha256_base64": base64.b64encode(b"too short").decode()},
        {"sha256_base64": DIGEST.hex()},
    ],
)
def test_uploads_have_bounds(storage: S3Storage, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"seconds|bytes|SHA-256"):
        storage.upload_url("a", **{**UPLOAD, "expires_seconds": 900, **change})


def test_a_client_downloads_by_an_address(storage: S3Storage, public_endpoint: str) -> None:
    storage.put("a", IMAGE)
    url = storage.download_url("a", filename='blip "épée";\r\n.png', content_type="image/png", expires_seconds=60)
    assert url is not None
    assert url.startswith(f"{public_endpoint}/")

    answer = httpx.get(url).raise_for_status()

    assert answer.content == IMAGE
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"blip-epee.png\"; filename*=UTF-8''blip%20%22%C3%A9p%C3%A9e%22%3B%0D%0A.png"
    )


@pytest.mark.parametrize("seconds", [0, 7 * 24 * 3600 + 1])
def test_downloads_have_bounds(storage: S3Storage, seconds: int) -> None:
    with pytest.raises(ValueError, match="seconds"):
        storage.download_url("a", filename="a", content_type="image/png", expires_seconds=seconds)


def test_a_private_endpoint_gives_no_addresses(bucket: str, s3_endpoint: str) -> None:
    storage = S3Storage(bucket, endpoint_url=s3_endpoint)
    assert storage.download_url("a", filename="a", content_type="image/png", expires_seconds=60) is None
    assert storage.upload_url("a", **UPLOAD, expires_seconds=60) is None


def test_aws_itself_is_public(aws_environment: None) -> None:
    url = S3Storage("my-bucket").download_url("a", filename="a", content_type="image/png", expires_seconds=60)
    assert url is not None
    assert urlsplit(url).hostname == "my-bucket.s3.amazonaws.com"


def test_hash_and_type_are_recorded(storage: S3Storage, bucket: str, s3_client, tmp_path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(9 << 20))
    storage.put("small", b"x", content_type="image/png")
    storage.put_file("large", large, content_type="model/safetensors")

    for key, data, content_type in (("small", b"x", "image/png"), ("large", bytes(9 << 20), "model/safetensors")):
        stat = storage.stat(key)
        assert stat is not None
        assert stat.sha256 == hashlib.sha256(data).hexdigest()
        assert s3_client.head_object(Bucket=bucket, Key=f"some/prefix/{key}")["ContentType"] == content_type


def test_more_objects_than_one_page(storage: S3Storage) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: storage.put(f"many/{number:04}", b""), range(1001)))
    storage.put("other", b"")

    assert [stat.key for stat in storage.list("many")] == [f"many/{number:04}" for number in range(1001)]
    assert storage.delete_prefix("many") == 1001
    assert [stat.key for stat in storage.list("")] == ["other"]


def test_what_others_keep_in_the_bucket_is_left_alone(storage: S3Storage, bucket: str, s3_client) -> None:
    for key in ("some/prefixed", "elsewhere/a", "some/prefix/", "some/prefix/folder/", "some/prefix/a b"):
        s3_client.put_object(Bucket=bucket, Key=key, Body=b"")
    storage.put("a", b"x")
    assert [stat.key for stat in storage.list("")] == ["a"]


def test_a_missing_bucket_fails_the_check(s3_endpoint: str) -> None:
    storage = open_storage("s3://no-such-bucket", s3_endpoint_url=s3_endpoint)
    with pytest.raises(StorageUnavailable, match="no-such-bucket"):
        storage.check()
    with pytest.raises(StorageError) as raised:
        storage.put("a", b"x")
    assert type(raised.value) is StorageError


def test_nobody_listening_fails_the_check(aws_environment: None) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        storage = S3Storage("a-bucket", endpoint_url=f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(StorageUnavailable):
            storage.check()


def test_a_busy_store_is_asked_again(scripted: ScriptedStore) -> None:
    scripted.answers = [(503, "SlowDown"), (500, "InternalError"), (200, "")]
    S3Storage("a-bucket", endpoint_url=scripted.url).put("a", b"x")
    assert scripted.answers == []


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDenied", StorageError),
        (404, "NoSuchBucket", StorageError),
        (404, "NoSuchKey", ObjectNotFound),
        (507, "InsufficientStorage", StorageFull),
    ],
)
def test_a_refusal_is_not_repeated(scripted: ScriptedStore, status: int, code: str, error: type[StorageError]) -> None:
    scripted.answers = [(status, code), (200, "")]
    with pytest.raises(StorageError, match=code) as raised:
        S3Storage("a-bucket", endpoint_url=scripted.url).read("a")
    assert type(raised.value) is error
    assert scripted.answers == [(200, "")]


def test_a_download_that_breaks_off_can_be_tried_again(scripted: ScriptedStore, tmp_path: Path) -> None:
    scripted.RequestHandlerClass = BreakingOff
    with pytest.raises(StorageUnavailable):
        S3Storage("a-bucket", endpoint_url=scripted.url).fetch("a", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_deletion_that_is_refused_in_part_is_an_error(scripted: ScriptedStore) -> None:
    scripted.answers = [
        (200, "<ListBucketResult><Contents><Key>a/b</Key></Contents></ListBucketResult>"),
        (200, "<DeleteResult><Error><Key>a/b</Key><Code>AccessDenied</Code></Error></DeleteResult>"),
    ]
    with pytest.raises(StorageError, match="a/b"):
        S3Storage("a-bucket", endpoint_url=scripted.url).delete_prefix("a")


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("SlowDown", 503, StorageUnavailable),
        ("RequestTimeout", 400, StorageUnavailable),
        ("TooManyRequests", 429, StorageUnavailable),
        ("NoSuchUpload", 404, StorageUnavailable),
        ("BadGateway", 502, StorageUnavailable),
        ("XMinioStorageFull", 507, StorageFull),
        ("404", 404, ObjectNotFound),
        ("InvalidAccessKeyId", 403, StorageError),
    ],
)
def test_each_failure_has_its_kind(code: str, status: int, error: type[StorageError]) -> None:
    assert error_kind(code, status) is error
