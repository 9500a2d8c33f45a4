"""What the first and last bytes of a file tell, however it was cut on the way."""

import gzip
import io
import random
import tarfile
import tracemalloc
import zipfile

import pytest

from app.datasets.screening import GLIMPSE_BYTES, MAX_UNPACKED_BYTES, Glimpse, judge
from core.domain.errors import ArchiveRejected, DatasetRejected
from tests.app.factory import draw_png
from tests.app.test_dataset_uploads import pack_tar, pack_zip


def see(content: bytes, chunk: int = 65536) -> Glimpse:
    glimpse = Glimpse()
    for start in range(0, len(content), chunk):
        glimpse.see(content[start : start + chunk])
    return glimpse


@pytest.mark.parametrize("size", [0, 1, GLIMPSE_BYTES, GLIMPSE_BYTES + 1, 3 * GLIMPSE_BYTES + 17])
def test_a_glimpse_keeps_both_ends(size: int) -> None:
    content = random.Random(size).randbytes(size)
    for chunk in (100_003, 65_536, 4 * GLIMPSE_BYTES):
        glimpse = see(content, chunk)
        assert (glimpse.size, glimpse.is_whole) == (size, size <= GLIMPSE_BYTES)
        assert bytes(glimpse.head) == content[:GLIMPSE_BYTES]
        assert glimpse.tail == content[-GLIMPSE_BYTES:]


def test_a_glimpse_of_a_large_file_is_small() -> None:
    tracemalloc.start()
    glimpse, chunk = Glimpse(), bytes(65536)
    for _ in range(1000):
        glimpse.see(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * GLIMPSE_BYTES


def test_a_large_zip_is_judged_by_its_end() -> None:
    noise = random.Random(1).randbytes(3 * GLIMPSE_BYTES)
    assert judge("a.zip", see(pack_zip({"noise.bin": noise, "a.png": draw_png()}))) is None
    fault = judge("a.zip", see(pack_zip({"noise.bin": noise, "a.txt": b"x"})))
    assert isinstance(fault, DatasetRejected)


def test_a_zip_whose_directory_is_out_of_sight_is_left_to_the_worker() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(12_000):
            archive.writestr(f"{'long' * 20}/{number}.txt", b"")
    assert len(buffer.getvalue()) > 2 * GLIMPSE_BYTES
    assert judge("a.zip", see(buffer.getvalue())) is None


def test_a_large_tar_is_judged_by_its_start() -> None:
    noise = random.Random(2).randbytes(3 * GLIMPSE_BYTES // 2)
    for mode in ("w", "w:gz", "w:bz2"):
        assert judge("a.tar", see(pack_tar({"a.png": draw_png(), "noise.bin": noise}, mode))) is None
        assert judge("a.tar", see(pack_tar({"noise.bin": noise, "a.txt": b"x"}, mode))) is None, "the rest is unknown"


def test_large_files_that_are_no_archives() -> None:
    noise = random.Random(3).randbytes(3 * GLIMPSE_BYTES)
    for name in ("a.zip", "a.tar", "a.tgz"):
        assert isinstance(judge(name, see(noise)), ArchiveRejected), name


def test_a_bomb_is_not_unpacked() -> None:
    """Much in little: in an entry, and in a header that a tar reader takes into memory whole."""
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE):
        entry = tarfile.TarInfo("zeros.bin")
        entry.size, entry.type = 40 << 20, kind
        glimpse = see(gzip.compress(entry.tobuf() + bytes(entry.size) + bytes(1024), 1))
        tracemalloc.start()
        judge("a.tar.gz", glimpse)
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
                judge(name, see(bytes(damaged)))
