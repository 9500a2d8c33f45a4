"""What the first and last bytes of a file tell, however it was cut on the way."""

import gzip
import io
import random
import tarfile
import tracemalloc
import zipfile

import pytest

from app.datasets.screening import MAX_UNPACKED_BYTES, PRECHECK_BYTES, HeadAndTail, precheck
from core.domain.errors import ArchiveRejected, DatasetRejected, UserError
from tests.app.factory import draw_png
from tests.app.test_dataset_uploads import pack_tar, pack_zip
from tests.worker.datasets.hostile import all_cases


def see(content: bytes, chunk: int = 65536) -> HeadAndTail:
    head_and_tail = HeadAndTail()
    for start in range(0, len(content), chunk):
        head_and_tail.see(content[start : start + chunk])
    return head_and_tail


@pytest.mark.parametrize("size", [0, 1, PRECHECK_BYTES, PRECHECK_BYTES + 1, 3 * PRECHECK_BYTES + 17])
def test_a_glimpse_keeps_both_ends(size: int) -> None:
    content = random.Random(size).randbytes(size)
    for chunk in (100_003, 65_536, 60_001, 4 * PRECHECK_BYTES):
        head_and_tail = see(content, chunk)
        assert head_and_tail.size == size
        assert bytes(head_and_tail.head) == content[:PRECHECK_BYTES]
        assert head_and_tail.tail == content[-PRECHECK_BYTES:]


@pytest.mark.parametrize(("size", "count"), [(65536, 1000), (262144, 100), (1, 3 * PRECHECK_BYTES)])
def test_a_glimpse_of_a_large_file_is_small(size: int, count: int) -> None:
    tracemalloc.start()
    head_and_tail = HeadAndTail()
    for _ in range(count):
        head_and_tail.see(bytes(size))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.6 * PRECHECK_BYTES


def test_a_large_zip_is_judged_by_its_end() -> None:
    noise = random.Random(1).randbytes(3 * PRECHECK_BYTES)
    assert precheck("a.zip", see(pack_zip({"noise.bin": noise, "a.png": draw_png()}))) is None
    fault = precheck("a.zip", see(pack_zip({"noise.bin": noise, "a.txt": b"x"})))
    assert isinstance(fault, DatasetRejected)


def test_a_zip_whose_directory_is_out_of_sight_is_left_to_the_worker() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(12_000):
            archive.writestr(f"{'long' * 20}/{number}.txt", b"")
    assert len(buffer.getvalue()) > 2 * PRECHECK_BYTES
    assert precheck("a.zip", see(buffer.getvalue())) is None


def test_a_large_tar_is_judged_by_its_start() -> None:
    noise = random.Random(2).randbytes(3 * PRECHECK_BYTES // 2)
    for mode in ("w", "w:gz", "w:bz2"):
        assert precheck("a.tar", see(pack_tar({"a.png": draw_png(), "noise.bin": noise}, mode))) is None
        assert precheck("a.tar", see(pack_tar({"noise.bin": noise, "a.txt": b"x"}, mode))) is None, "unknown"


def test_large_files_that_are_no_archives() -> None:
    noise = random.Random(3).randbytes(3 * PRECHECK_BYTES)
    for name in ("a.zip", "a.tar", "a.tgz"):
        assert isinstance(precheck(name, see(noise)), ArchiveRejected), name


def test_a_bomb_is_not_unpacked() -> None:
    """Much in little: in an entry, and in a header that a tar reader takes into memory whole."""
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE):
        entry = tarfile.TarInfo("zeros.bin")
        entry.size, entry.type = 40 << 20, kind
        head_and_tail = see(gzip.compress(entry.tobuf() + bytes(entry.size) + bytes(1024), 1))
        tracemalloc.start()
        precheck("a.tar.gz", head_and_tail)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * MAX_UNPACKED_BYTES


def test_damaged_archives_never_raise() -> None:
    chance = random.Random(4)
    for content in (pack_zip({"a.png": draw_png(), "b.txt": b"x"}), pack_tar({"a.png": draw_png()}, "w:gz")):
        for _ in range(300):
            damaged = bytearray(content)
            for _ in range(chance.randint(1, 8)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            for name in ("a.zip", "a.tar.gz"):
                precheck(name, see(bytes(damaged)))


def test_a_hostile_archive_is_refused_or_left_to_the_worker(subtests: pytest.Subtests) -> None:
    """This runs in the API's process: it may neither raise nor dwell on it. The worker's tests say who refuses what."""
    for case in all_cases():
        with subtests.test(case.id):
            fault = precheck(case.filename, see(case.data))
            assert fault is None or isinstance(fault, UserError)


def pack_pax(value: bytes, name: str = "a.txt") -> bytes:
    """An entry behind an extended header."""
    extended, entry = tarfile.TarInfo("pax"), tarfile.TarInfo(name)
    extended.type, extended.size, entry.size = tarfile.XHDTYPE, len(value), 0
    padding = bytes(-len(value) % 512)
    return extended.tobuf() + value + padding + entry.tobuf() + bytes(1024)


def test_a_header_that_costs_others_minutes_is_passed_over() -> None:
    """CVE-2024-6232: endless digits, for an expression that backtracks over them. CVE-2025-8194: negative lengths."""
    for value in (b"9" * (PRECHECK_BYTES - 4096), b"-1 path=a.png\n" * 10_000, b"20 GNU.sparse.map=" + b"1," * 100_000):
        assert precheck("a.tar", see(pack_pax(value))) is None, "the true name is in the header: the worker reads it"
        assert precheck("a.tar", see(pack_pax(value, "a.png"))) is None


def test_what_tar_programs_write_is_understood() -> None:
    """Long and foreign names are in headers of their own, in three dialects."""
    for dialect in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for name in ("a.png", f"{'folder/' * 12}a.png"):
            assert precheck("a.tar", see(pack_dialect(dialect, "notes.txt", name))) is None
        assert isinstance(precheck("a.tar", see(pack_dialect(dialect, "notes.txt"))), DatasetRejected)
        assert isinstance(precheck("a.tar", see(pack_dialect(dialect))), ArchiveRejected)
    for dialect in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for name in (f"{'n' * 200}.png", "\N{CAT FACE}.png"):
            assert precheck("a.tar", see(pack_dialect(dialect, name))) is None


def pack_dialect(dialect: int, *names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=dialect) as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def test_a_compressed_file_of_several_streams_is_left_to_the_worker() -> None:
    content = pack_tar({"notes.txt": b"x" * 5000, "a.png": draw_png()})
    parts = gzip.compress(content[:3000]) + gzip.compress(content[3000:])
    assert precheck("a.tar.gz", see(parts)) is None


@pytest.mark.parametrize("name", ["../../a.png", "..\\a.png", "/etc/a.png", "inner.zip", "a/../b.jpg"])
def test_hostile_names_alone_are_left_to_the_worker_who_names_the_fault(name: str) -> None:
    assert precheck("a.zip", see(pack_zip({name: b"x"}))) is None


@pytest.mark.parametrize("name", ["._a.png", "__MACOSX/a.png", "@eaDir/a.png", ".thumbnails/a.png"])
def test_litter_is_no_image(name: str) -> None:
    assert isinstance(precheck("a.zip", see(pack_zip({name: b"x"}))), DatasetRejected)


@pytest.mark.parametrize(
    "name", [".hack/a.png", "...and then.png", ".a.png", "a.HEIC", "b.jfif", "c.avif", "photo", "d.jpg_large"]
)
def test_names_that_begin_with_a_dot_and_all_suffixes_are_images(name: str) -> None:
    assert precheck("a.zip", see(pack_zip({name: b"x"}))) is None
