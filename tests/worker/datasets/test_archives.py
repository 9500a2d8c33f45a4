"""Honest archives come apart whole; any bytes at all are taken apart or refused."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.domain.errors import ArchiveRejected
from core.domain.filenames import is_os_metadata
from tests.fixtures.pictures import png
from tests.worker.datasets.hostile import tar_of, zip_of
from worker.datasets.archives import NOT_USABLE, ExpandLimits, expand_archive, is_usable_name
from worker.datasets.decoder import _DAMAGE
from worker.datasets.names import clean_name
from worker.datasets.sandbox import Sandbox

FILES = (("blip/a.png", png(0)), ("blip/a.txt", b"a blip"), ("blip/metadata.jsonl", b"{}"), ("b.JPEG", png(1)))
LITTER = (("__MACOSX/blip/._a.png", b"x"), (".DS_Store", b"x"), ("blip/Thumbs.db", b"x"), ("blip/.git/a.png", b"x"))
LIMITS = ExpandLimits(max_total_bytes=1 << 20, max_file_bytes=1 << 20)
KINDS: dict[str, Callable[..., bytes]] = {
    "zip": zip_of,
    "tar": tar_of,
    "tar.gz": lambda *files: gzip.compress(tar_of(*files)),
    "tgz": lambda *files: gzip.compress(tar_of(*files)),
    "tar.bz2": lambda *files: bz2.compress(tar_of(*files)),
    "tar.xz": lambda *files: lzma.compress(tar_of(*files)),
}


def expand(data: bytes, filename: str, tmp_path: Path, limits: ExpandLimits = LIMITS) -> dict[str, bytes | str | None]:
    """Name -> its bytes, or why it was not written."""
    archive, folder = tmp_path / "archive", tmp_path / "folder"
    archive.write_bytes(data)
    folder.mkdir()
    entries = expand_archive(archive, filename, folder, limits).entries
    return {e.name: (folder / e.written_as).read_bytes() if e.written_as else e.problem for e in entries}


@pytest.mark.parametrize("kind", KINDS)
def test_takes_out_what_a_dataset_can_use(kind: str, tmp_path: Path) -> None:
    files = expand(KINDS[kind](*FILES, *LITTER, ("notes.doc", b"x")), f"Set.{kind.upper()}", tmp_path)

    assert files == {**dict(FILES), "notes.doc": NOT_USABLE}


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_archive_is_empty(kind: str, tmp_path: Path) -> None:
    assert expand(KINDS[kind](), f"set.{kind}", tmp_path) == {}


def test_folders_are_no_files(tmp_path: Path) -> None:
    assert expand(zip_of(("a/", b""), ("a/b/", b"")), "set.zip", tmp_path) == {}


def test_folders_of_a_tar_are_no_files(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("./blip")
    folder.type = tarfile.DIRTYPE

    assert expand(tar_of((folder, b""), ("./blip/a.png", b"x")), "set.tar", tmp_path) == {"blip/a.png": b"x"}


def test_takes_the_backslashes_of_old_zips_as_folders(tmp_path: Path) -> None:
    assert expand(zip_of(("blip\\a.png", b"x")), "set.zip", tmp_path) == {"blip/a.png": b"x"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_composes_the_names_that_a_mac_decomposes(kind: str, tmp_path: Path) -> None:
    assert expand(KINDS[kind](("cafe\u0301.png", b"x")), f"set.{kind}", tmp_path) == {"caf\u00e9.png": b"x"}


def test_a_name_that_is_not_utf_8_is_read_in_the_most_probable_encoding(tmp_path: Path) -> None:
    data = tar_of(("caf\udce9.png", b"x"), kind=tarfile.USTAR_FORMAT)
    assert b"caf\xe9.png" in data

    (name,) = expand(data, "set.tar", tmp_path)

    assert name == "caf\u00e9.png"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_leaves_out_a_file_that_is_too_large(kind: str, tmp_path: Path) -> None:
    limits = ExpandLimits(max_total_bytes=1 << 20, max_file_bytes=100)
    files = expand(KINDS[kind](("a.png", bytes(101)), ("b.png", bytes(100))), f"set.{kind}", tmp_path, limits)

    assert files == {"a.png": "It is larger than 100 bytes: make it smaller.", "b.png": bytes(100)}


def test_a_zip_with_a_program_before_it_is_taken(tmp_path: Path) -> None:
    assert expand(b"#!/bin/sh\n" * 100 + zip_of(*FILES), "set.zip", tmp_path) == dict(FILES)


def test_unused_files_cost_nothing(tmp_path: Path) -> None:
    """What is not written is not unpacked either."""
    entries = expand(zip_of(("video.mp4", bytes(50 << 20)), ("a.png", b"x")), "set.zip", tmp_path)

    assert entries == {"video.mp4": NOT_USABLE, "a.png": b"x"}


def test_equal_captions_are_no_bomb(tmp_path: Path) -> None:
    captions = b'{"file_name": "a.png", "text": "blip"}\n' * 20_000

    assert expand(zip_of(("metadata.jsonl", captions)), "set.zip", tmp_path) == {"metadata.jsonl": captions}


# --- any bytes ------------------------------------------------------------------------------------------

# The writers themselves cut names at a NUL; hostile.py has those.
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
contents = st.dictionaries(names.map(lambda name: name + ".png"), st.binary(max_size=50), max_size=6)
fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzz
@given(files=contents, kind=st.sampled_from(["zip", "tar"]))
def test_any_names_and_contents(files: dict[str, bytes], kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Either refused, or all there under the names that the rules make of theirs."""
    tmp_path = tmp_path_factory.mktemp("any")
    try:
        found = expand(KINDS[kind](*files.items()), f"set.{kind}", tmp_path)
    except (ArchiveRejected, UnicodeError):
        return
    cleaned = {clean_name(name): data for name, data in files.items()}
    expected = {name: data if is_usable_name(name) else NOT_USABLE for name, data in cleaned.items()}
    assert found == {name: data for name, data in expected.items() if not is_os_metadata(name)}
    for name in found:
        assert ".." not in name.split("/")
        assert not name.startswith("/")
        assert "\0" not in name


@fuzz
@given(data=st.data(), kind=st.sampled_from(sorted(KINDS)))
def test_any_damage(data: st.DataObject, kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A few bytes changed: taken apart, refused, or one of the errors that the decoder renders."""
    archive = bytearray(KINDS[kind](*FILES))
    for at in data.draw(st.lists(st.integers(0, len(archive) - 1), min_size=1, max_size=8)):
        archive[at] = data.draw(st.integers(0, 255))
    tmp_path = tmp_path_factory.mktemp("damage")
    try:
        expand(bytes(archive), f"set.{kind}", tmp_path)
    except (ArchiveRejected, NotImplementedError, RuntimeError, *_DAMAGE):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "folder"]


@fuzz
@given(
    data=st.binary(max_size=2000),
    magic=st.sampled_from([b"PK\3\4", b"PK\5\6", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b""]),
)
def test_any_bytes(data: bytes, magic: bytes, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> None:
    tmp_path = tmp_path_factory.mktemp("bytes")
    (tmp_path / "archive").write_bytes(magic + data)
    for name in ("set.zip", "set.tar"):
        folder = tmp_path / name
        folder.mkdir()
        with suppress(ArchiveRejected):
            # A block of zeros is an empty tar.
            assert sandbox.expand(tmp_path / "archive", name, folder).entries == ()


def test_a_stored_zip_is_taken(tmp_path: Path) -> None:
    assert expand(zip_of(*FILES, method=zipfile.ZIP_STORED), "set.zip", tmp_path) == dict(FILES)
