"""Streamed archives: as long as announced, and readable by the standard library."""

import io
import zipfile

import pytest

from app.zips import ZipEntry, measure_zip, stream_zip


def entry(name: str, *chunks: bytes, size: int | None = None) -> ZipEntry:
    return ZipEntry(name, sum(map(len, chunks)) if size is None else size, lambda: chunks)


@pytest.mark.parametrize("entries", [[], [entry("a", b"")], [entry("\u00e9/b.png", b"x", b"yz"), entry("c", b"d")]])
@pytest.mark.parametrize("limit", [zipfile.ZIP64_LIMIT, 20])
def test_the_length_is_known(entries: list[ZipEntry], limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small limit, as archives of more than 2 GiB are."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    data = b"".join(stream_zip(entries))
    assert len(data) == measure_zip(entries)
    monkeypatch.undo()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            one.name: b"".join(one.read()) for one in entries
        }


def test_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    entries = [entry(str(number), b"x") for number in range(3)]
    assert sum(map(len, stream_zip(entries))) == measure_zip(entries)


def test_nothing_is_held_back() -> None:
    stream = stream_zip([entry("a", b"x" * 100, b"y" * 100)])
    assert next(stream).endswith(b"x" * 100)
    assert next(stream) == b"y" * 100


def test_a_client_may_leave() -> None:
    stream = stream_zip([entry("a", b"x", b"y"), entry("b", b"z")])
    next(stream)
    stream.close()


def test_another_length_than_promised_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 bytes instead of 2"):
        list(stream_zip([entry("a", b"x", size=2)]))
