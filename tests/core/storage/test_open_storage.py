from pathlib import Path

import pytest

from core.storage import DirectoryStorage, InvalidKey, MemoryStorage, open_storage


def test_a_path_is_a_directory(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "new" / "store"))
    assert isinstance(storage, DirectoryStorage)
    storage.put("a", b"x")
    assert (tmp_path / "new" / "store" / "a").read_bytes() == b"x"


def test_a_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    open_storage("~/store").put("a", b"x")
    assert (tmp_path / "store" / "a").exists()


def test_each_memory_is_its_own() -> None:
    first, second = open_storage("memory://"), open_storage("memory://")
    assert isinstance(first, MemoryStorage)
    first.put("a", b"x")
    assert second.stat("a") is None


@pytest.mark.parametrize("prefix", ["", "/", "/deep/prefix", "/deep/prefix/"])
def test_a_bucket_with_a_prefix(prefix: str, bucket: str, s3_endpoint: str, s3_client) -> None:
    storage = open_storage(f"s3://{bucket}{prefix}", s3_endpoint_url=s3_endpoint)
    storage.put("a/b", b"x")
    names = [entry["Key"] for entry in s3_client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert names == [f"{prefix}/a/b".replace("//", "/").removeprefix("/")]
    assert [stat.key for stat in storage.list("a")] == ["a/b"]


@pytest.mark.parametrize("location", ["", "s3://", "s3:///prefix", "s3://Bad_Bucket/a", "gs://bucket", "memory://x"])
def test_other_locations_are_refused(location: str) -> None:
    with pytest.raises(ValueError, match=r"storage location|S3 bucket"):
        open_storage(location)


def test_a_bad_prefix_is_refused() -> None:
    with pytest.raises(InvalidKey):
        open_storage("s3://bucket/a/../b")
