"""Any archive at all: taken apart under its rules, or refused as such; the decoder lives, in little memory."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import ArchiveRejected
from core.domain.filenames import is_hidden_twin, is_os_metadata
from tests.fixtures.pictures import png
from tests.hostile.fuzzing import fuzz
from tests.hostile.test_images import PEAK_BYTES, measure_peak
from tests.worker.datasets.conftest import LIMITS
from tests.worker.datasets.hostile import raw_zip
from worker.datasets.archives import Entry
from worker.datasets.names import NameRegister, clean_name, is_nested_archive
from worker.datasets.sandbox import Sandbox

NAMES = st.sampled_from(
    [
        b"a.png",
        b"A.PNG",
        b"b.txt",
        b"../a.png",
        b"/a.png",
        b"a/",
        b"",
        b".x",
        b"a\0b.png",
        b"b.zip",
        b"\xff.png",
        b"c" * 600,
    ]
) | st.binary(max_size=12)
DATA = st.sampled_from([png(), b"", b"a caption", bytes(5000)]) | st.binary(max_size=60)
SIZES = st.sampled_from([0, 1, 60, 100, 2**20, 2**20 + 1, 2**31, 2**32 - 1]) | st.integers(0, 200)
METHODS = st.sampled_from([0, 0, 0, 8, 9, 12, 14, 99])
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "zip": bytes,
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}


@st.composite
def zips(draw: st.DrawFn) -> bytes:
    """Entries that say what they are, and a directory that may say something else."""
    entries = draw(st.lists(st.tuples(NAMES, DATA, METHODS), min_size=1, max_size=4))
    directory = []
    for index, (name, data, method) in enumerate(entries):
        honest = (name, index, method, len(data), len(data))
        lying = st.tuples(NAMES, st.integers(0, len(entries) - 1), METHODS, SIZES, SIZES)
        directory.append(draw(st.just(honest) | st.just(honest) | lying))
    return raw_zip(entries, directory)


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    """Headers of any kind and size, with a true checksum."""
    buffer = io.BytesIO()
    for _ in range(draw(st.integers(1, 4))):
        data, member = draw(DATA), tarfile.TarInfo(draw(NAMES).decode("utf-8", "surrogateescape")[:99])
        member.type = draw(
            st.sampled_from([b"0", b"0", b"0", b"\0", b"5", b"1", b"2", b"3", b"6", b"S", b"L", b"x", b"g", b"Z"])
        )
        member.size = draw(st.just(len(data)) | st.just(len(data)) | SIZES | st.sampled_from([-1, -512, 2**40]))
        member.linkname = draw(st.sampled_from(["", "/etc/passwd", "../x"]))
        buffer.write(member.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape") + data + bytes(-len(data) % 512))
    return buffer.getvalue() + bytes(draw(st.sampled_from([0, 512, 1024])))


@st.composite
def archives(draw: st.DrawFn) -> tuple[str, bytes]:
    """With some bytes changed, after it was packed."""
    kind = draw(st.sampled_from(sorted(PACKERS)))
    content = bytearray(PACKERS[kind](draw(zips() if kind == "zip" else tars())))
    for at in draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[at] = draw(st.integers(0, 255))
    return f"set.{draw(st.sampled_from(sorted(PACKERS)) if draw(st.integers(0, 9)) == 0 else st.just(kind))}", bytes(
        content
    )


def check(entries: Sequence[Entry], folder: Path) -> None:
    names, total = NameRegister(), 0
    for entry in entries:
        names.add(entry.name)
        assert entry.name == clean_name(entry.name) and not is_nested_archive(entry.name)
        assert not is_os_metadata(entry.name) or is_hidden_twin(entry.name)
        assert (entry.written_as is None) == (entry.problem is not None)
        if entry.written_as is not None:
            assert entry.written_as.isdigit()
            total += (size := (folder / entry.written_as).stat().st_size)
            assert size <= LIMITS.max_file_bytes
    assert total <= LIMITS.max_total_bytes


@fuzz
@given(archive=archives())
def test_any_archive(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory, archive: tuple[str, bytes]) -> None:
    filename, content = archive
    tmp_path = tmp_path_factory.mktemp("any")
    (tmp_path / "archive").write_bytes(content)
    (tmp_path / "folder").mkdir()
    before = sandbox.pid
    try:
        check(sandbox.expand(tmp_path / "archive", filename, tmp_path / "folder").entries, tmp_path / "folder")
    except ArchiveRejected as refused:
        assert refused.detail.endswith(".")  # noqa: PT017 - either way is good, and has its own promise
    assert before in (None, sandbox.pid), "the decoder must refuse, not die"
    assert measure_peak(sandbox.pid) < PEAK_BYTES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "folder"]
    assert all(path.name.isdigit() or path.name == "archive.tar" for path in (tmp_path / "folder").rglob("*"))
