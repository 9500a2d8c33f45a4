"""Datasets from addresses: fetched over real sockets on loopback, which the tests' operator admits."""

import io
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from core.db import dataset_claims, datasets
from core.db.tables import DEFAULT_TENANT, Dataset, DatasetFile, Quota
from core.domain.dataset import DatasetManifest
from core.domain.ids import new_id
from core.domain.receivers import AllowList
from core.domain.sources import name_by_type, name_sources
from core.domain.states import DatasetStatus
from core.settings import Settings
from core.storage import MemoryStorage
from tests.fixtures.datasets import read
from tests.fixtures.pictures import png
from tests.fixtures.serving import serving
from tests.hostile.addresses import FORBIDDEN
from tests.worker.datasets.hostile import zip_of
from worker.consumer import Consumer
from worker.datasets import sources
from worker.datasets.captions import MAX_CAPTION_BYTES
from worker.datasets.service import Validation

Sessions = sessionmaker[Session]
AnyConsumer = Consumer[Any, Any]
Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return Settings(
        database_url=database_url, redis_url="redis://nowhere", max_images=20, heartbeat_seconds=0.05,
        lease_seconds=20, fetch_allow=AllowList.parse("127.0.0.1"), fetch_timeout_seconds=5, max_file_bytes=100_000,
    )  # fmt: skip


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def validator(settings: Settings, sessions: Sessions, storage: MemoryStorage) -> AnyConsumer:
    return Consumer(Validation, settings, sessions, storage, threading.Event())


def send(content: bytes, media_type: str = "", status: int = 200, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        if media_type:
            request.send_header("Content-Type", media_type)
        if "Content_Length" not in headers:
            request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    return answer


def redirect(to: str) -> Answer:
    return send(b"", status=302, Location=to)


def drip(request: BaseHTTPRequestHandler) -> None:
    """A byte now and then, without an end."""
    request.send_response(200)
    request.end_headers()
    for _ in range(100):
        request.wfile.write(b"x")
        time.sleep(0.2)


def flood(request: BaseHTTPRequestHandler) -> None:
    """Of unstated length."""
    request.send_response(200)
    request.send_header("Content-Type", "image/png")
    request.end_headers()
    for _ in range(100):
        request.wfile.write(b"x" * 10_000)


@contextmanager
def serve(pages: dict[str, Answer]) -> Iterator[str]:
    """The address of its root. Other paths are 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert "authorization" not in self.headers and "cookie" not in self.headers
            pages.get(self.path, send(b"", status=404))(self)

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


def request(sessions: Sessions, urls: Sequence[str]) -> str:
    with sessions.begin() as session:
        dataset_id = new_id("ds")
        row = datasets.insert_dataset(
            session, dataset_id=dataset_id, tenant_id=DEFAULT_TENANT, name=None, status=DatasetStatus.VALIDATING
        )
        row.sources = list(urls)
        return dataset_id


def fetch(validator: AnyConsumer, sessions: Sessions, urls: Sequence[str]) -> Dataset:
    dataset_id = request(sessions, urls)
    assert validator.run_next()
    return read(sessions, dataset_id)


def reasons(dataset: Dataset) -> dict[str, str]:
    assert dataset.report is not None
    return {item["file"]: item["reason"] for item in dataset.report["left_out"]}


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def test_files_from_addresses_become_a_set_as_uploads_do(
    validator: AnyConsumer, sessions: Sessions, storage: MemoryStorage
) -> None:
    pages = {
        "/a.png?token=1": send(png(1), "image/png"),
        "/a.txt": send(b"a blip", "text/plain; charset=utf-8"),
        "/deep/caf%C3%A9": send(jpeg(), "image/jpeg"),
        "/download/7": send(zip_of(("b.png", png(2)), ("b.txt", b"another")), "application/zip"),
        "/moved": redirect("/here/c.png"),
        "/here/c.png": send(png(3), "application/octet-stream"),
    }
    with serve(pages) as root:
        urls = [f"{root}{path}" for path in pages if not path.startswith("/here")]
        dataset = fetch(validator, sessions, [*urls, f"{root}/gone.png"])
    assert (dataset.status, dataset.sources) == ("ready", None), dataset.error
    manifest = DatasetManifest.model_validate(dataset.manifest)
    assert {image.name: image.caption for image in manifest.images} == {
        "a.png": "a blip", "café": None, "7.zip/b.png": "another", "moved": None,
    }  # fmt: skip
    assert reasons(dataset) == {f"{root}/gone.png": "It was not fetched: the server answered 404."}
    counts = (dataset.report or {})["files"]
    assert (counts["received"], counts["images"], counts["captions"], counts["left_out"]) == (7, 4, 2, 1)
    with sessions() as session:
        totals = datasets.total_files(session, dataset.id)
    assert totals.num_files == 5
    assert sorted(stat.key for stat in storage.list(f"datasets/{dataset.id}/")) == sorted(
        i.key for i in manifest.images
    )


def test_every_failure_is_reported_by_its_address(validator: AnyConsumer, sessions: Sessions) -> None:
    pages = {
        "/good.png": send(png(1), "image/png"),
        "/page.png": send(b"<html>", "text/html; charset=utf-8"),
        "/program": send(b"MZ", "application/x-msdownload"),
        "/empty.png": send(b"", "image/png"),
        "/secret.png": send(b"", status=403),
        "/large.png": send(b"x" * 100_001, "image/png"),
        "/flood.png": flood,
        "/drip.png": drip,
        "/zipped.png": send(b"x", "image/png", Content_Encoding="gzip"),
        "/short.png": send(b"x", "image/png", Content_Length="100"),
        "/loop": redirect("/loop"),
        "/inside": redirect("http://10.0.0.1/latest/meta-data/"),
        "/metadata": redirect("http://169.254.169.254/latest/meta-data/"),
        "/file": redirect("file:///etc/passwd"),
        "/user": redirect("http://user:pass@example.com/a.png"),
        "/lies.png": send(b"not an image", "image/png"),
    }
    with serve(pages) as root:
        dataset = fetch(validator, sessions, [f"{root}{path}" for path in pages])
    assert dataset.status == "ready"
    found = {file.removeprefix(root): reason for file, reason in reasons(dataset).items()}
    said = {
        "/page.png": "it is text/html, and not an image",
        "/program": "it is application/x-msdownload",
        "/empty.png": "it is empty",
        "/secret.png": "the server answered 403",
        "/large.png": "larger than 100,000 bytes",
        "/flood.png": "larger than 100,000 bytes",
        "/drip.png": "did not arrive within 5 s",
        "/zipped.png": "compressed",
        "/short.png": "the connection broke",
        "/loop": "redirected more than 5 times",
        "/inside": "refused: 10.0.0.1 is a private address",
        "/metadata": "refused: 169.254.169.254 is a link-local address",
        "/file": "the address cannot be used",
        "/user": "the address cannot be used",
        "lies.png": "It is not an image",
    }
    assert {file for file, text in said.items() if text not in found.get(file, "")} == set(), found
    assert len(found) == len(said)
    assert len(DatasetManifest.model_validate(dataset.manifest).images) == 1


def test_each_kind_of_file_has_the_limit_of_uploads(
    settings: Settings, sessions: Sessions, storage: MemoryStorage
) -> None:
    """An archive also where only the server's type says that it is one."""
    limited = settings.model_copy(update={"max_upload_bytes": 700_000})
    validator = Consumer(Validation, limited, sessions, storage, threading.Event())
    packed = zip_of(("a.png", png(1)), ("big.txt", os.urandom(150_000)))
    assert 100_000 < len(packed) < 300_000
    pages = {
        "/set.zip": send(packed, "application/zip"),
        "/download": send(packed, "application/x-zip-compressed"),
        "/odd.png": send(packed, "application/zip"),
        "/huge.zip": send(bytes(700_001), "application/zip"),
        "/b.png": send(png(2), "image/png"),
        "/b.txt": send(b"x" * (MAX_CAPTION_BYTES + 1), "text/plain"),
        "/c.caption": send(b"x" * (MAX_CAPTION_BYTES + 1), "application/octet-stream"),
        "/metadata.jsonl": send(b"\n" * (MAX_CAPTION_BYTES + 1), "application/jsonl"),
        "/d.png": send(bytes(100_001), "image/png"),
        "/nameless": send(bytes(100_001), "text/plain"),
    }
    with serve(pages) as root:
        dataset = fetch(validator, sessions, [f"{root}{path}" for path in pages])
    said = {file.removeprefix(root): reason for file, reason in reasons(dataset).items() if file.startswith(root)}
    one, caption = "the limit for one such file", "too large for a caption"
    assert said == {
        "/huge.zip": f"It was not fetched: it is larger than 700,000 bytes, {one}.",
        "/b.txt": f"It was not fetched: it is larger than 65,536 bytes, {caption}.",
        "/c.caption": f"It was not fetched: it is larger than 65,536 bytes, {caption}.",
        "/d.png": f"It was not fetched: it is larger than 100,000 bytes, {one}.",
        "/nameless": f"It was not fetched: it is larger than 100,000 bytes, {one}.",
    }
    assert dataset.status == "ready", dataset.error


def test_no_forbidden_address_is_called(validator: AnyConsumer, sessions: Sessions, settings: Settings) -> None:
    """Whatever came past the API: all of the corpus, loopback included once nobody admits it."""
    strict = settings.model_copy(update={"fetch_allow": AllowList()})
    consumer = Consumer(Validation, strict, sessions, MemoryStorage(), threading.Event())
    dataset = fetch(consumer, sessions, FORBIDDEN)
    assert dataset.status == "rejected" and dataset.error is not None
    assert f"None of its {len(FORBIDDEN)} addresses gave a file." in dataset.error["detail"]


def test_a_set_without_any_file_says_why(validator: AnyConsumer, sessions: Sessions) -> None:
    with serve({}) as root:
        dataset = fetch(validator, sessions, [f"{root}/a.png"])
    assert (dataset.status, dataset.sources) == ("rejected", None)
    assert (dataset.error or {})["detail"] == f"{root}/a.png: It was not fetched: the server answered 404."


def test_a_hostile_archive_is_refused_as_an_upload_is(validator: AnyConsumer, sessions: Sessions) -> None:
    with serve({"/a.zip": send(b"PK not a zip", "application/zip")}) as root:
        dataset = fetch(validator, sessions, [f"{root}/a.zip"])
    assert dataset.status == "rejected" and "/problems/archive-rejected" in (dataset.error or {})["type"]


def test_a_tenants_room_is_respected(validator: AnyConsumer, sessions: Sessions) -> None:
    pages = {f"/{number}.png": send(png(number), "image/png") for number in range(3)}
    with sessions.begin() as session:
        session.merge(Quota(tenant_id=DEFAULT_TENANT, is_default=False, stored_bytes=len(png(0)) + 10))
    with serve(pages) as root:
        dataset = fetch(validator, sessions, [f"{root}{path}" for path in pages])
    assert len([reason for reason in reasons(dataset).values() if "with it the set has more than" in reason]) == 2


def test_all_of_them_share_one_time_limit(
    validator: AnyConsumer, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_SECONDS", 1.0)
    dripping: list[str] = []

    def drip_once(request: BaseHTTPRequestHandler) -> None:
        dripping.append(request.path)
        drip(request)

    with serve({"/a.png": send(png(1)), "/drip": drip_once}) as root:
        queries = [f"{root}/drip?sig={number}" for number in range(20)]
        dataset = fetch(validator, sessions, [f"{root}/a.png", f"{root}/drip", *queries])
    assert len(dripping) < 21, "those after the limit are not requested any more"
    assert dataset.status == "ready" and "took longer than 1 s together" in reasons(dataset)[f"{root}/drip"]
    assert len(reasons(dataset)) == 21 and "sig=" not in str(dataset.report), "a query may be a signature"


def test_a_killed_workers_files_are_fetched_again(validator: AnyConsumer, sessions: Sessions) -> None:
    with serve({"/a.png": send(png(1))}) as root:
        dataset_id = request(sessions, [f"{root}/a.png"])
        with sessions.begin() as session:
            claim = dataset_claims.claim_validation(session, lease_seconds=60)
            assert claim is not None and claim.sources is not None
            file = datasets.NewFile("f", "a.png", "k", "0" * 64, 7)
            dataset_claims.keep_file(session, claim, file)
        with sessions.begin() as session:
            session.execute(update(Dataset).values(lease_until=None))
        with sessions.begin() as session, pytest.raises(dataset_claims.LostLease):
            dataset_claims.keep_file(session, claim, file)
        assert validator.run_next()
    assert read(sessions, dataset_id).status == "ready"
    with sessions() as session:
        assert [row.size for row in session.execute(select(DatasetFile)).scalars()] == [len(png(1))]


def test_deleting_it_ends_the_fetching(validator: AnyConsumer, sessions: Sessions, storage: MemoryStorage) -> None:
    with serve({"/a.png": send(png(1)), "/drip": drip}) as root:
        dataset_id = request(sessions, [f"{root}/a.png", f"{root}/drip"])
        worker = threading.Thread(target=validator.run_next)
        worker.start()
        deadline = time.monotonic() + 10
        with sessions() as session:
            while datasets.total_files(session, dataset_id).num_files == 0 and time.monotonic() < deadline:
                time.sleep(0.05)
                session.rollback()
        with sessions.begin() as session:
            datasets.delete_dataset(session, DEFAULT_TENANT, dataset_id)
        worker.join(4)
        assert not worker.is_alive()
    assert not list(storage.list(f"datasets/{dataset_id}/"))


@pytest.mark.parametrize(
    ("urls", "names"),
    [
        (["https://a.b/x/cat.png?s=1", "https://c.d/cat.png"], ["cat.png", "cat (2).png"]),
        (["https://a.b/", "https://a.b"], ["image", "image (2)"]),
        (["https://a.b/..%2f..%2fetc%2fpasswd", "https://a.b/a%00b.png"], ["-..-etc-passwd", "a-b.png"]),
        ([f"https://a.b/{'x' * 300}.jpeg"], [f"{'x' * 100}.jpeg"]),
        ([f"https://a.b/{'x' * 300}.tar.gz"], [f"{'x' * 100}.tar.gz"]),
    ],
)
def test_files_are_named_by_their_addresses(urls: list[str], names: list[str]) -> None:
    assert name_sources(urls) == names


def test_archives_get_their_suffix() -> None:
    assert name_by_type("set", "application/zip") == "set.zip"
    assert name_by_type("set.tar", "application/zip") == "set.tar"
    assert name_by_type("cat", "image/png") == "cat"
