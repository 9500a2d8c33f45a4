"""What core.storage.protocol promises, on every store."""

import hashlib
import io
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.storage import InvalidKey, ObjectNotFound, Storage, StoredObject

pytestmark = pytest.mark.parametrize("kind", ["directory", "s3", "memory"])

MEBIBYTE = 1 << 20
SMALL = b"an adapter of few words"
LARGE = random.Random(0).randbytes(20 * MEBIBYTE)
"""Lost, doubled or swapped pieces show."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class ShortReads(io.RawIOBase):
    """Like a socket: gives less than was asked for, and cannot seek."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, 100_003))


@pytest.mark.parametrize("data", [b"", SMALL, LARGE, LARGE[: 8 * MEBIBYTE]], ids=["empty", "small", "large", "8 MiB"])
@pytest.mark.parametrize("source", [bytes, io.BytesIO, ShortReads])
def test_what_was_put_is_read(storage: Storage, source, data: bytes) -> None:
    stored = storage.put("jobs/job_01JX/a1/adapter.safetensors", source(data))

    assert stored == StoredObject("jobs/job_01JX/a1/adapter.safetensors", len(data), sha256(data))
    assert storage.read("jobs/job_01JX/a1/adapter.safetensors") == data


def test_files_go_in_and_out(storage: Storage, tmp_path: Path) -> None:
    source, target = tmp_path / "in.bin", tmp_path / "out.bin"
    source.write_bytes(LARGE)
    target.write_bytes(b"something older")

    stored = storage.put_file("a/b", source)

    assert storage.fetch("a/b", target) == stored == StoredObject("a/b", len(LARGE), sha256(LARGE))
    assert target.read_bytes() == LARGE
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["in.bin", "out.bin"]


def test_a_failed_fetch_leaves_the_file_as_it_was(storage: Storage, tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"something older")

    with pytest.raises(ObjectNotFound):
        storage.fetch("not/there", target)

    assert target.read_bytes() == b"something older"
    assert [path for path in tmp_path.iterdir() if path.is_file()] == [target]


def test_a_put_begins_where_the_source_stands(storage: Storage) -> None:
    source = io.BytesIO(b"header" + LARGE)
    source.seek(len(b"header"))

    assert storage.put("a", source).sha256 == sha256(LARGE)
    assert storage.read("a") == LARGE


def test_a_stream_reads_forward_in_the_asked_pieces(storage: Storage) -> None:
    storage.put("a", LARGE)

    with storage.open("a") as stream:
        assert not stream.seekable()
        assert stream.read(10) == LARGE[:10]
        assert stream.read(3 * MEBIBYTE) == LARGE[10 : 10 + 3 * MEBIBYTE]
        assert stream.read() == LARGE[10 + 3 * MEBIBYTE :]
        assert stream.read(1) == b""


@pytest.mark.parametrize("start", [0, 1, 8 * MEBIBYTE, len(LARGE) - 1])
def test_a_stream_begins_where_it_is_asked_to(storage: Storage, start: int) -> None:
    storage.put("a", LARGE)
    with storage.open("a", start=start) as stream:
        assert stream.read() == LARGE[start:]


def test_an_exception_of_a_reader_passes_through(storage: Storage) -> None:
    storage.put("a", SMALL)

    with pytest.raises(OSError, match="the client hung up"), storage.open("a"):
        raise OSError("the client hung up")


def test_stat_tells_size_and_time(storage: Storage) -> None:
    storage.put("a/b", SMALL)
    stat = storage.stat("a/b")

    assert stat is not None
    assert (stat.key, stat.size) == ("a/b", len(SMALL))
    assert stat.modified.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - stat.modified) < timedelta(hours=1)
    assert stat.sha256 in (None, sha256(SMALL))


def test_what_is_absent_says_so(storage: Storage) -> None:
    storage.put("a/b", SMALL)

    for key in ("nothing", "a", "a/nothing"):
        assert storage.stat(key) is None
        with pytest.raises(ObjectNotFound, match=key):
            storage.read(key)
        with pytest.raises(ObjectNotFound, match=key), storage.open(key):
            pass
        storage.delete(key)
    assert storage.read("a/b") == SMALL


def test_deleted_is_gone(storage: Storage) -> None:
    storage.put("a/b", SMALL)
    storage.delete("a/b")
    assert storage.stat("a/b") is None
    assert list(storage.list("")) == []


@pytest.mark.parametrize("good_bytes", [0, 300_000, 20 * MEBIBYTE])
def test_a_source_that_fails_leaves_nothing(storage: Storage, breaking_source, good_bytes: int) -> None:
    error = RuntimeError("the camera fell into the lake")

    with pytest.raises(RuntimeError) as raised:
        storage.put("a/b", breaking_source(good_bytes, error))

    assert raised.value is error
    assert storage.stat("a/b") is None
    assert list(storage.list("")) == []


@pytest.mark.parametrize("good_bytes", [300_000, 20 * MEBIBYTE])
def test_a_source_that_fails_leaves_the_older_object(storage: Storage, breaking_source, good_bytes: int) -> None:
    storage.put("a/b", SMALL)

    with pytest.raises(KeyboardInterrupt):
        storage.put("a/b", breaking_source(good_bytes, KeyboardInterrupt()))

    assert storage.read("a/b") == SMALL


class MeetingSource(io.RawIOBase):
    """Waits for the other one in the middle, so that both puts are surely under way at once."""

    def __init__(self, data: bytes, meeting: threading.Barrier) -> None:
        self._data, self._meeting, self._middle = io.BytesIO(data), meeting, len(data) // 2

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._data.tell() >= self._middle > 0:
            self._middle = -1
            self._meeting.wait(timeout=60)
        return self._data.read(min(size, 1 << 16))


@pytest.mark.parametrize("size", [MEBIBYTE, 10 * MEBIBYTE])
def test_of_two_racing_puts_one_whole_object_stays(storage: Storage, size: int) -> None:
    meeting = threading.Barrier(2)
    contents = [bytes([letter]) * size for letter in b"xy"]

    with ThreadPoolExecutor(2) as pool:
        puts = [pool.submit(storage.put, "a/b", MeetingSource(data, meeting)) for data in contents]
    stored = [put.result() for put in puts]

    assert [one.sha256 for one in stored] == [sha256(data) for data in contents]
    assert storage.read("a/b") in contents
    assert [stat.key for stat in storage.list("")] == ["a/b"]


def test_a_reader_of_a_replaced_object_gets_one_or_the_other_whole(storage: Storage) -> None:
    storage.put("a", b"x" * MEBIBYTE)

    with storage.open("a") as stream:
        begin = stream.read(10)
        storage.put("a", b"y" * MEBIBYTE)
        assert begin + stream.read() in (b"x" * MEBIBYTE, b"y" * MEBIBYTE)

    assert storage.read("a") == b"y" * MEBIBYTE


def test_many_threads_at_once(storage: Storage) -> None:
    def roundtrip(number: int) -> bool:
        data = bytes([number]) * 10_000
        storage.put(f"threads/{number % 4}/{number}", data)
        return storage.read(f"threads/{number % 4}/{number}") == data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(roundtrip, range(64)))
    assert len(list(storage.list("threads"))) == 64


KEYS = ["B", "a-b/x", "a.b", "a/b", "a/c/d", "a/c/e", "a0", "aa/b"]


def test_listings_are_in_the_order_of_the_keys(storage: Storage) -> None:
    for key in reversed(KEYS):
        storage.put(key, key.encode())

    found = list(storage.list(""))

    assert [stat.key for stat in found] == KEYS
    assert [stat.size for stat in found] == [len(key) for key in KEYS]
    assert all(stat.modified.utcoffset() == timedelta(0) for stat in found)


@pytest.mark.parametrize("prefix", ["a", "a/"])
def test_a_prefix_names_a_folder(storage: Storage, prefix: str) -> None:
    for key in KEYS:
        storage.put(key, SMALL)

    assert [stat.key for stat in storage.list(prefix)] == ["a/b", "a/c/d", "a/c/e"]
    assert list(storage.list("nothing/here")) == []
    assert list(storage.list("a/b")) == []


@pytest.mark.parametrize("prefix", ["a", "a/"])
def test_delete_prefix_removes_a_folder_and_no_other(storage: Storage, prefix: str) -> None:
    for key in KEYS:
        storage.put(key, SMALL)

    assert storage.delete_prefix(prefix) == 3
    assert storage.delete_prefix(prefix) == 0
    assert [stat.key for stat in storage.list("")] == ["B", "a-b/x", "a.b", "a0", "aa/b"]


def test_delete_prefix_never_takes_the_whole_store(storage: Storage) -> None:
    storage.put("a", SMALL)
    for prefix in ("", "/"):
        with pytest.raises(InvalidKey):
            storage.delete_prefix(prefix)
    assert storage.read("a") == SMALL


BAD_KEYS = ["", "/a", "a/", "a//b", "../a", "a/../../b", "a/.", ".tmp/a", "a\\b", "a b", "é", "a\n", "a\0"]


def test_every_method_refuses_a_bad_key(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(SMALL)
    link = {"content_type": "image/png", "expires_seconds": 60}
    calls = [
        lambda key: storage.put(key, SMALL),
        lambda key: storage.put_file(key, tmp_path / "file"),
        lambda key: storage.open(key).__enter__(),
        lambda key: storage.read(key),
        lambda key: storage.fetch(key, tmp_path / "target"),
        lambda key: storage.stat(key),
        lambda key: storage.delete(key),
        lambda key: storage.download_url(key, filename="a.png", **link),
        lambda key: storage.upload_url(key, size=1, sha256_base64="", **link),
    ]
    for call in calls:
        for key in BAD_KEYS:
            with pytest.raises(InvalidKey):
                call(key)
    assert list(storage.list("")) == []


def test_listings_refuse_a_bad_prefix(storage: Storage) -> None:
    for prefix in ("/", "/a", "..", "a//", "../a", "a b"):
        with pytest.raises(InvalidKey):
            storage.list(prefix)
        with pytest.raises(InvalidKey):
            storage.delete_prefix(prefix)


def test_a_store_in_order_passes_its_check(storage: Storage) -> None:
    storage.check()
    assert list(storage.list("")) == []
