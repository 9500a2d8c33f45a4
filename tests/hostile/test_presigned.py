"""Signed addresses: good for the one file that was announced, for a quarter of an hour, and looked at before use."""

import base64
import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.conftest import LiveApi, as_tenant, make_settings, serve, workers_url
from tests.app.factory import add_dataset, draw_png
from tests.app.test_jobs import refuse
from tests.hostile.strict_store import StrictStore, serve_strict_store
from worker.consumer import Consumer
from worker.datasets.service import Validation

CONTENT = draw_png(1)
OTHER = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
BUCKET = "presigned"


@dataclass(frozen=True)
class Sent:
    """A request to the store."""

    method: str
    url: str
    headers: dict[str, str]
    content: bytes

    def send(self) -> httpx.Response:
        return httpx.request(self.method, self.url, headers=self.headers, content=self.content)

    def with_header(self, name: str, value: str | None) -> "Sent":
        kept = {key: held for key, held in self.headers.items() if key.lower() != name}
        return replace(self, headers=kept if value is None else {**kept, name: value})

    def with_url(self, pattern: str, by: str) -> "Sent":
        changed = re.sub(pattern, by, self.url, count=1)
        assert changed != self.url, pattern
        return replace(self, url=changed)

    def of(self, content: bytes) -> "Sent":
        digest = hashlib.sha256(content)
        sent = replace(self, content=content).with_header("content-length", str(len(content)))
        sent = sent.with_header("x-amz-checksum-sha256", base64.b64encode(digest.digest()).decode())
        return sent.with_header("x-amz-meta-sha256", digest.hexdigest())


Change = Callable[[Sent], Sent]

FORGED: dict[str, Change] = {
    "another key": lambda sent: sent.with_url(r"/uploads/[0-9a-f]{32}", f"/uploads/{'0' * 32}"),
    "a longer key": lambda sent: sent.with_url(r"\?", ".png?"),
    "a key above": lambda sent: sent.with_url(r"/uploads/", "/uploads/../"),
    "another dataset's key": lambda sent: sent.with_url(r"/ds_[0-9a-z]+/", "/ds_00000000000000000000000000/"),
    "a job's key": lambda sent: sent.with_url(r"/datasets/", "/jobs/"),
    "another bucket": lambda sent: sent.with_url(f"/{BUCKET}/", "/another/"),
    "no signature": lambda sent: sent.with_url(r"&X-Amz-Signature=\w+", ""),
    "an empty signature": lambda sent: sent.with_url(r"Signature=\w+", "Signature="),
    "a signature cut short": lambda sent: sent.with_url(r"(Signature=\w+)\w\b", r"\1"),
    "another signature": lambda sent: sent.with_url(r"Signature=\w+", f"Signature={'0' * 64}"),
    "a longer life": lambda sent: sent.with_url(r"Expires=\d+", "Expires=86400"),
    "a later day": lambda sent: sent.with_url(r"Date=\d{4}", "Date=2999"),
    "another key's id": lambda sent: sent.with_url(r"Credential=[\w-]+", "Credential=AKIAIOSFODNN7EXAMPLE"),
    "another region": lambda sent: sent.with_url(r"us-east-1", "eu-west-1"),
    "fewer signed headers": lambda sent: sent.with_url(r"content-length%3B", ""),
    "no query": lambda sent: sent.with_url(r"\?.*", ""),
    "another parameter": lambda sent: sent.with_url(r"\?", "?acl&"),
    "a part of an upload": lambda sent: sent.with_url(r"\?", "?partNumber=1&uploadId=x&"),
    "more bytes": lambda sent: sent.of(CONTENT + bytes(1000)),
    "fewer bytes": lambda sent: sent.of(CONTENT[:100]),
    "no bytes": lambda sent: sent.of(b""),
    "as many other bytes": lambda sent: sent.of(OTHER),
    "another checksum": lambda sent: sent.with_header("x-amz-checksum-sha256", "A" * 43 + "="),
    "no checksum": lambda sent: sent.with_header("x-amz-checksum-sha256", None),
    "another hash in the metadata": lambda sent: sent.with_header("x-amz-meta-sha256", "0" * 64),
    "another type": lambda sent: sent.with_header("content-type", "text/html"),
    "no type": lambda sent: sent.with_header("content-type", None),
    "open to all": lambda sent: sent.with_header("x-amz-acl", "public-read"),
    "a redirect": lambda sent: sent.with_header("x-amz-website-redirect-location", "https://evil.example"),
    "a copy of another's": lambda sent: sent.with_header("x-amz-copy-source", f"/{BUCKET}/prefix/jobs/x"),
    "GET": lambda sent: replace(sent, method="GET"),
    "HEAD": lambda sent: replace(sent, method="HEAD"),
    "DELETE": lambda sent: replace(sent, method="DELETE"),
    "POST": lambda sent: replace(sent, method="POST"),
}  # fmt: skip

FORGED_DOWNLOADS: dict[str, Change] = {
    "another key": lambda sent: sent.with_url(r"/images/[0-9a-f]{64}", f"/images/{'0' * 64}"),
    "another dataset's key": lambda sent: sent.with_url(r"/ds_[0-9a-z]+/", "/ds_00000000000000000000000000/"),
    "shown, not saved": lambda sent: sent.with_url(r"disposition=attachment", "disposition=inline"),
    "as a page": lambda sent: sent.with_url(r"content-type=image%2Fpng", "content-type=text%2Fhtml"),
    "a longer life": lambda sent: sent.with_url(r"Expires=\d+", "Expires=86400"),
    "PUT": lambda sent: replace(sent, method="PUT", content=b"x"),
    "DELETE": lambda sent: replace(sent, method="DELETE"),
}


@pytest.fixture(scope="module")
def store(s3_client: Any) -> Iterator[StrictStore]:
    s3_client.create_bucket(Bucket=BUCKET)
    with serve_strict_store(s3_client) as store:
        yield store


@pytest.fixture(scope="module")
def s3_api(
    shared_api: LiveApi, store: StrictStore, s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveApi]:
    """Keeps its files in moto; clients are sent to the strict store before it."""
    settings = make_settings(
        shared_api.settings.database_url,
        shared_api.settings.redis_url,
        tmp_path_factory.mktemp("presigned"),
        storage=f"s3://{BUCKET}/prefix",
        s3_endpoint_url=s3_endpoint,
        s3_public_endpoint_url=store.url,
    )
    with serve(settings, workers_url(shared_api)) as api, as_tenant(api) as tenant:
        yield tenant


@pytest.fixture
def dataset(s3_api: LiveApi) -> str:
    return str(s3_api.client.post("/datasets", json={}).json()["id"])


def announce(api: LiveApi, dataset: str, content: bytes = CONTENT) -> Sent:
    file = {"filename": "a.png", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    answer = api.client.post(f"/datasets/{dataset}/uploads", json={"files": [file]})
    assert answer.status_code == 201, answer.text
    upload = answer.json()["data"][0]
    assert datetime.fromisoformat(upload["expires_at"]) <= datetime.now(UTC) + timedelta(minutes=15)
    return Sent(upload["method"], upload["url"], {k.lower(): v for k, v in upload["headers"].items()}, content)


def test_an_address_takes_its_file_and_tells_how_long(s3_api: LiveApi, dataset: str) -> None:
    sent = announce(s3_api, dataset)
    assert "X-Amz-Expires=900&" in sent.url
    assert sent.send().status_code == 200
    assert s3_api.client.post(f"/datasets/{dataset}/finalize").json()["status"] == "validating"


@pytest.mark.parametrize("what", FORGED)
def test_an_address_is_good_for_nothing_else(s3_api: LiveApi, dataset: str, what: str) -> None:
    forged = FORGED[what](announce(s3_api, dataset))
    assert forged.send().status_code == 403
    assert s3_api.list_stored(f"datasets/{dataset}") == []
    refuse(s3_api.client.post(f"/datasets/{dataset}/finalize"), 422, "invalid-request")


def test_bytes_under_anothers_checksum_are_not_taken(s3_api: LiveApi, dataset: str) -> None:
    assert replace(announce(s3_api, dataset), content=OTHER).send().status_code == 400
    assert s3_api.list_stored(f"datasets/{dataset}") == []


def test_after_a_quarter_of_an_hour_it_is_good_for_nothing(s3_api: LiveApi, dataset: str, store: StrictStore) -> None:
    sent = announce(s3_api, dataset)
    store.now = lambda: datetime.now(UTC) + timedelta(minutes=15, seconds=1)
    try:
        assert sent.send().status_code == 403
    finally:
        store.now = lambda: datetime.now(UTC)
    assert sent.send().status_code == 200


@pytest.mark.parametrize("what", FORGED_DOWNLOADS)
def test_an_address_for_a_download_gives_that_file_alone(s3_api: LiveApi, store: StrictStore, what: str) -> None:
    image = s3_api.client.get(f"/datasets/{add_dataset(s3_api)}/images").json()["data"][0]
    address = s3_api.client.get(image["url"]).headers["location"]
    sent = Sent("GET", address, {}, b"")
    assert sent.send().content == draw_png(0)
    assert FORGED_DOWNLOADS[what](sent).send().status_code == 403
    store.now = lambda: datetime.now(UTC) + timedelta(minutes=5, seconds=1)
    try:
        assert sent.send().status_code == 403
    finally:
        store.now = lambda: datetime.now(UTC)


def put_behind(api: LiveApi, sent: Sent, content: bytes) -> None:
    """Into the store by another way: as if it had not looked at the address."""
    api.storage.put(httpx.URL(sent.url).path.removeprefix(f"/{BUCKET}/prefix/"), content)


def test_what_came_is_looked_at_before_it_is_used(
    s3_api: LiveApi, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a store take other bytes: of another size they are missed at the end, of the same by the worker."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sent = announce(s3_api, dataset)
    put_behind(s3_api, sent, CONTENT + b"x")
    problem = refuse(s3_api.client.post(f"/datasets/{dataset}/finalize"), 422, "invalid-request")
    assert "a.png" in problem["detail"]
    put_behind(s3_api, sent, OTHER)
    assert s3_api.client.post(f"/datasets/{dataset}/finalize").status_code == 202
    settings = s3_api.settings.model_copy(update={"database_url": workers_url(s3_api)})
    validator = Consumer(Validation, settings, s3_api.sessions, s3_api.storage, threading.Event())
    while (shown := s3_api.client.get(f"/datasets/{dataset}").json())["status"] == "validating":
        assert validator.run_next()
    assert (shown["status"], shown["error"]["type"]) == ("rejected", "/problems/dataset-rejected")
    assert "changed since it was uploaded" in shown["error"]["detail"]
